package netsetup_test

import (
	"net/netip"
	"os/exec"
	"testing"

	"sallyport/netsetup"
	"sallyport/netsetup/netnstest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// TestUnprivileged runs all the other tests without root, when this is root.
func TestUnprivileged(t *testing.T) { netnstest.Unprivileged(t) }

// eachBackend runs f in a namespace sealed by each backend.
func eachBackend(t *testing.T, f func(t *testing.T, ns *netsetup.Namespace)) {
	for _, b := range []netsetup.Backend{netsetup.NFTables, netsetup.IPTables} {
		t.Run(string(b), func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			t.Cleanup(func() { goleak.VerifyNone(t, before) })
			f(t, netnstest.Seal(t, netsetup.Config{Backend: b}))
		})
	}
}

// inside runs a command in ns.
func inside(ns *netsetup.Namespace, name string, args ...string) (output string, err error) {
	var out []byte
	err = ns.Do(func() (err error) {
		out, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	return string(out), err
}

func mustInside(t *testing.T, ns *netsetup.Namespace, name string, args ...string) string {
	t.Helper()
	out, err := inside(ns, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func addrPort(addr string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
}
