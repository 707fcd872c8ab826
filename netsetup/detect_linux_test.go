package netsetup_test

import (
	"errors"
	"os"
	"testing"

	"sallyport/netsetup"
	"sallyport/netsetup/netnstest"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

// lack is a machine that lacks something, played by a seccomp filter, and what
// Detect says of it.
type lack struct {
	name    string
	syscall string
	errno   unix.Errno
	when    seccomp.ArgumentConditions
	want    map[string]string // capability: part of its error
	backend netsetup.Backend
}

const lackVar = "SALLYPORT_LACK"

var lacks = []lack{{
	name:    "nothing",
	backend: netsetup.NFTables,
}, {
	name:    "nf_tables",
	syscall: "socket", errno: unix.EPROTONOSUPPORT,
	when: seccomp.ArgumentConditions{
		{Argument: 0, Operation: seccomp.Equal, Value: unix.AF_NETLINK},
		{Argument: 2, Operation: seccomp.Equal, Value: unix.NETLINK_NETFILTER},
	},
	want:    map[string]string{"nf_tables": "protocol not supported"},
	backend: netsetup.IPTables,
}, {
	name:    "nf_tables and iptables",
	syscall: "socket", errno: unix.EPROTONOSUPPORT,
	when: seccomp.ArgumentConditions{
		{Argument: 0, Operation: seccomp.Equal, Value: unix.AF_NETLINK},
		{Argument: 2, Operation: seccomp.Equal, Value: unix.NETLINK_NETFILTER},
	},
	want: map[string]string{
		"nf_tables": "protocol not supported",
		"iptables":  "executable file not found",
		"redirect":  "executable file not found",
	},
}, {
	name:    "IPv6",
	syscall: "socket", errno: unix.EAFNOSUPPORT,
	when:    seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.Equal, Value: unix.AF_INET6}},
	want:    map[string]string{"IPv6": "turned off"},
	backend: netsetup.NFTables,
}, {
	name:    "network namespaces",
	syscall: "unshare", errno: unix.EPERM,
	when: seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_NEWNET}},
	want: map[string]string{
		"network namespaces": "run as root",
		"veth":               "not tried", "IPv6": "not tried", "nf_tables": "not tried", "iptables": "not tried", "redirect": "not tried",
	},
}, {
	name:    "user namespaces",
	syscall: "clone", errno: unix.ENOSPC,
	when:    seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_NEWUSER}},
	want:    map[string]string{"user namespaces": "no space left"},
	backend: netsetup.NFTables,
}}

func TestDetect(t *testing.T) {
	for _, l := range lacks {
		if !netnstest.Inside() {
			t.Run(l.name, func(t *testing.T) { netnstest.Restart(t, lackVar+"="+l.name) })
		} else if os.Getenv(lackVar) == l.name {
			l.play(t)
			l.check(t)
		}
	}
}

// play takes from this process what the machine lacks.
func (l lack) play(t *testing.T) {
	t.Helper()
	if _, ok := l.want["iptables"]; ok {
		t.Setenv("PATH", t.TempDir())
	}
	if l.syscall == "" {
		return
	}
	err := seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionAllow,
			Syscalls: []seccomp.SyscallGroup{{
				NamesWithCondtions: []seccomp.NameWithConditions{{Name: l.syscall, Conditions: l.when}},
				Action:             seccomp.ActionErrno | seccomp.Action(l.errno),
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (l lack) check(t *testing.T) {
	t.Helper()
	c := netsetup.Detect(t.Context())
	for name, err := range c.All() {
		want := l.want[name]
		if want == "" && err != nil || want != "" && !mentions(err, want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	ns, err := netsetup.Seal(t.Context(), netsetup.Config{})
	if (err == nil) != (c.Sealable() == nil) {
		t.Errorf("Seal: %v, but Detect: %v", err, c.Sealable())
	}
	if err != nil {
		return
	}
	if ns.Backend() != l.backend {
		t.Errorf("backend %s, want %s", ns.Backend(), l.backend)
	}
	if err := errors.Join(ns.Verify(t.Context()), ns.Probe(t.Context()), ask(ns, addrPort(anywhere[0], 53)), ns.Close()); err != nil {
		t.Error(err)
	}
}
