package netsetup_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"

	"sallyport/netsetup"
	"sallyport/netsetup/netnstest"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestCloseLeavesNoTrace: no descriptors, goroutines, links or mounts, and the
// namespace itself ends.
func TestCloseLeavesNoTrace(t *testing.T) {
	for _, backend := range []netsetup.Backend{netsetup.NFTables, netsetup.IPTables} {
		t.Run(string(backend), func(t *testing.T) {
			current := goleak.IgnoreCurrent()
			sealProbeClose(t, backend) // what is set up once in a process
			before := traces(t)
			sealProbeClose(t, backend)
			if diff := cmp.Diff(before, traces(t)); diff != "" {
				t.Errorf("(-before +after):\n%s", diff)
			}
			goleak.VerifyNone(t, current)
		})
	}
}

func traces(t *testing.T) string {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d descriptors\n%s\n%s", len(fds), mounts, run(t, "ip", "-o", "link"))
}

// sealProbeClose seals, uses and closes a namespace, and waits for its end: that
// ends a link which reaches from it to the outside.
func sealProbeClose(t *testing.T, backend netsetup.Backend) {
	t.Helper()
	ns, err := netsetup.Seal(t.Context(), netsetup.Config{Backend: backend})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(ns.Verify(t.Context()), ns.Probe(t.Context())); err != nil {
		t.Error(err)
	}
	ended := watchLink(t, ns)
	if err := ns.Close(); err != nil {
		t.Error(err)
	}
	if err := ns.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if err := ns.Do(func() error { return nil }); err == nil {
		t.Error("a closed namespace can be entered")
	}
	ended()
}

// watchLink adds a link that ends with ns. The function it gives waits for that.
func watchLink(t *testing.T, ns *netsetup.Namespace) (ended func()) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "watch"
	pair := netlink.NewVeth(attrs)
	pair.PeerName = "watched"
	pair.PeerNamespace = netlink.NsFd(ns.File().Fd())
	if err := netlink.LinkAdd(pair); err != nil {
		t.Fatal(err)
	}
	updates, done := make(chan netlink.LinkUpdate, 100), make(chan struct{})
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		t.Fatal(err)
	}
	return func() {
		for u := range updates {
			if u.Header.Type == unix.RTM_DELLINK && int(u.Index) == pair.Index {
				break
			}
		}
		close(done)
		for range updates {
		}
	}
}

// TestSealFailedLeavesNoTrace fails at the last step.
func TestSealFailedLeavesNoTrace(t *testing.T) {
	path := addNetNS(t, "busy")
	release := takePort(t, path, 15053)
	defer release()
	current := goleak.IgnoreCurrent()
	before := traces(t)
	for range 3 {
		if _, err := netsetup.SealPath(t.Context(), path, netsetup.Config{}); !mentions(err, "listen") {
			t.Errorf("got %v", err)
		}
	}
	if diff := cmp.Diff(before, traces(t)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	goleak.VerifyNone(t, current)
}

// TestDo: f runs inside, alone on its thread, and nothing else of the process
// ends up there.
func TestDo(t *testing.T) {
	ns := netnstest.Seal(t, netsetup.Config{})
	inside, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d", ns.File().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	var g sync.WaitGroup
	for range 200 {
		g.Go(func() {
			err := ns.Do(func() error {
				runtime.Gosched()
				here, err := os.Stat("/proc/thread-self/ns/net")
				if err == nil && !os.SameFile(here, inside) {
					err = errors.New("not inside")
				}
				if unix.Gettid() == unix.Getpid() {
					err = errors.New("on the main thread")
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
		g.Go(func() {
			if here, err := os.Stat("/proc/thread-self/ns/net"); err != nil || os.SameFile(here, inside) {
				t.Error("a goroutine outside is inside", err)
			}
		})
	}
	g.Wait()
	if process, err := os.Stat("/proc/self/ns/net"); err != nil || os.SameFile(process, inside) {
		t.Error("the process is inside", err)
	}
}

func TestDoErrors(t *testing.T) {
	ns := netnstest.Seal(t, netsetup.Config{})
	want := errors.New("mine")
	if err := ns.Do(func() error { return want }); err != want {
		t.Errorf("got %v, want %v", err, want)
	}
	if err := ns.Do(func() error { runtime.Goexit(); return nil }); !mentions(err, "ended its goroutine") {
		t.Errorf("got %v", err)
	}
}

// TestListenersCanBeHandedOver: the worker gets copies, and init keeps its own
// for the next worker.
func TestListenersCanBeHandedOver(t *testing.T) {
	ns := netnstest.Seal(t, netsetup.Config{})
	for range 2 {
		f, err := ns.TCP().File()
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		addr := addrPort(anywhere[3], 443)
		arrive(t, ns, l.(*net.TCPListener), []netip.AddrPort{addr}, map[arrival]int{{addr, false}: 1})
		l.Close()
	}
}
