package netsetup_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"sallyport/netsetup"
	"sallyport/netsetup/netnstest"
)

// addNetNS makes a namespace as runtimes do, by "ip netns add".
func addNetNS(t *testing.T, name string) (path string) {
	t.Helper()
	run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { run(t, "ip", "netns", "del", name) })
	return "/run/netns/" + name
}

// describe is everything that sealing changes in a namespace.
func describe(t *testing.T, name string) string {
	t.Helper()
	return run(t, "ip", "netns", "exec", name, "sh", "-c",
		"ip -br link; ip -o addr; ip route show table all; ip -6 route show table all; ip neigh; nft list ruleset; "+
			"for f in iptables-legacy ip6tables-legacy; do for t in nat filter; do $f -t $t -S; done; done; ss -Hltun")
}

func TestSealPath(t *testing.T) {
	for _, backend := range []netsetup.Backend{netsetup.NFTables, netsetup.IPTables} {
		for _, lo := range []string{"up", "down"} {
			t.Run(string(backend)+"/lo "+lo, func(t *testing.T) {
				path := addNetNS(t, "made")
				run(t, "ip", "-n", "made", "link", "set", "lo", lo)
				before := describe(t, "made")
				ns, err := netsetup.SealPath(t.Context(), path, netsetup.Config{Backend: backend})
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(ns.Verify(t.Context()), ns.Probe(t.Context())); err != nil {
					t.Error(err)
				}
				addr := addrPort(anywhere[0], 443)
				arrive(t, ns, ns.TCP(), []netip.AddrPort{addr}, map[arrival]int{{addr, false}: 1})

				if _, err := netsetup.SealPath(t.Context(), path, netsetup.Config{Backend: backend}); !mentions(err, "sealed already") {
					t.Errorf("sealed twice: %v", err)
				}
				if err := ns.Verify(t.Context()); err != nil {
					t.Errorf("after a second attempt: %v", err)
				}
				if err := ns.Close(); err != nil {
					t.Error(err)
				}
				if after := describe(t, "made"); after != before {
					t.Errorf("not as before:\n%s\nbut:\n%s", before, after)
				}
			})
		}
	}
}

// TestSealPathAfterADeath: what a killed sidecar leaves is named in the refusal,
// with what removes it.
func TestSealPathAfterADeath(t *testing.T) {
	path := addNetNS(t, "dead")
	left, err := netsetup.SealPath(t.Context(), path, netsetup.Config{Backend: netsetup.NFTables})
	if err != nil {
		t.Fatal(err)
	}
	_, err = netsetup.SealPath(t.Context(), path, netsetup.Config{})
	if err == nil {
		t.Fatal("sealed twice")
	}
	_, after, _ := strings.Cut(err.Error(), "'")
	command, _, ok := strings.Cut(after, "'")
	if !ok {
		t.Fatalf("no command in %q", err)
	}
	run(t, "ip", "netns", "exec", "dead", "sh", "-ec", command)
	if err := left.Close(); err != nil {
		t.Errorf("closing one that was cleaned up: %v", err)
	}
	again, err := netsetup.SealPath(t.Context(), path, netsetup.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestSealPathOfAProcess seals the namespace of a running program, as attach
// does with a container's.
func TestSealPathOfAProcess(t *testing.T) {
	cmd := exec.Command("unshare", "--net", "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	in.Write([]byte("x"))
	out.Read(make([]byte, 1)) // it answers, so it is where it will be
	ns, err := netsetup.SealPath(t.Context(), "/proc/"+strconv.Itoa(cmd.Process.Pid)+"/ns/net", netsetup.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(ns.Verify(t.Context()), ns.Probe(t.Context()), ns.Close()); err != nil {
		t.Error(err)
	}
}

// TestSealPathRefuses what can't be sealed, and leaves it as it was.
func TestSealPathRefuses(t *testing.T) {
	tests := []struct {
		name, setup, want string
	}{
		{"a link that is up", "ip link add eth0 type veth peer name p; ip link set eth0 up", "(veth)"},
		{"a link that is down", "ip link add net0 type veth peer name p", "interface"},
		{"a bridge", "ip link add br0 type bridge", "interface br0 (bridge)"},
		{"an overlay", "ip link add vx0 type vxlan id 1 dstport 4789", "interface vx0 (vxlan)"},
		{"a table of that name", "nft add table inet sallyport", "sealed already"},
		{"a default route", "ip link set lo up; ip route add default dev lo", "default route"},
		{"a taken port", "", "listen"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := addNetNS(t, "refused")
			run(t, "ip", "netns", "exec", "refused", "sh", "-c", test.setup)
			if test.want == "listen" {
				defer takePort(t, path, 15053)()
			}
			before := describe(t, "refused")
			ns, err := netsetup.SealPath(t.Context(), path, netsetup.Config{Backend: netsetup.NFTables})
			if err == nil {
				ns.Close()
			}
			if !mentions(err, test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
			if after := describe(t, "refused"); after != before {
				t.Errorf("not as before:\n%s\nbut:\n%s", before, after)
			}
		})
	}
}

// takePort listens in the namespace at path.
func takePort(t *testing.T, path string, port int) (release func() error) {
	t.Helper()
	ns, err := netsetup.SealPath(t.Context(), path, netsetup.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	err = ns.Do(func() (err error) {
		ns.DNSStream().Close()
		l, err = net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		return err
	})
	if err := errors.Join(err, ns.Close()); err != nil {
		t.Fatal(err)
	}
	return l.Close
}

func TestSealPathOfTheCaller(t *testing.T) {
	_, err := netsetup.SealPath(t.Context(), "/proc/self/ns/net", netsetup.Config{})
	if !mentions(err, "this process itself") {
		t.Errorf("got %v", err)
	}
	_, err = netsetup.SealPath(t.Context(), "/run/netns/none", netsetup.Config{})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	_, err = netsetup.SealPath(t.Context(), "/proc/self/ns/mnt", netsetup.Config{})
	if !mentions(err, "enter the network namespace") {
		t.Errorf("got %v", err)
	}
}

// TestSealWithoutIPv6 seals where the runtime turned IPv6 off.
func TestSealWithoutIPv6(t *testing.T) {
	path := addNetNS(t, "four")
	run(t, "ip", "netns", "exec", "four", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	ns, err := netsetup.SealPath(t.Context(), path, netsetup.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := errors.Join(ns.Verify(t.Context()), ns.Probe(t.Context())); err != nil {
		t.Error(err)
	}
	if got := ns.Nameservers(); len(got) != 1 || !got[0].Is4() {
		t.Errorf("nameservers: %v, want one of IPv4", got)
	}
	if err := ask(ns, addrPort(anywhere[0], 53)); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		config netsetup.Config
		want   string
	}{
		{netsetup.Config{InterceptPort: 7, DNSPort: 7}, "must differ"},
		{netsetup.Config{InterceptPort: 15053}, "must differ"},
		{netsetup.Config{Backend: "pf"}, `"pf"`},
	} {
		if _, err := netsetup.Seal(t.Context(), test.config); !mentions(err, test.want) {
			t.Errorf("%+v: %v, want an error with %q", test.config, err, test.want)
		}
	}
	ns := netnstest.Seal(t, netsetup.Config{InterceptPort: 7001, DNSPort: 7002})
	if err := errors.Join(ns.Verify(t.Context()), ns.Probe(t.Context()), ask(ns, addrPort(anywhere[3], 53))); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := netsetup.Seal(ctx, netsetup.Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func mentions(err error, want string) bool { return err != nil && strings.Contains(err.Error(), want) }
