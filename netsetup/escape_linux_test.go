package netsetup_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"sallyport/netsetup"
	"sallyport/netsetup/netnstest"

	"golang.org/x/sys/unix"
)

// The outside that a sandbox tries to reach: addresses of the namespace that the
// tests themselves run in.
const (
	outside4 = "203.0.113.7"
	outside6 = "2001:db8:7::7"
	greeting = "you are outside"
	letter   = "let me out" // what every attack sends

	userVar = "SALLYPORT_ATTACKER"
)

var outside = []string{outside4, outside6}

// TestEscape runs the attacks of attack_linux_test.go inside, as each user, and
// listens outside.
func TestEscape(t *testing.T) {
	if netnstest.Inside() {
		attack(t, netnstest.User(os.Getenv(userVar)))
		return
	}
	world := newWorld(t)
	eachBackend(t, func(t *testing.T, ns *netsetup.Namespace) {
		discard(t, ns)
		// Nothing a sandbox's user does even reaches the link. The owner can
		// remove the rules: then there is a link, which leads nowhere.
		var link *tap
		if err := ns.Do(func() (err error) { link, err = newTap(); return err }); err != nil {
			t.Fatal(err)
		}
		defer link.Close()
		netnstest.Reenter(t, ns, netnstest.ChildRoot, userVar+"="+string(netnstest.ChildRoot))
		for _, frame := range link.frames(t) {
			if frame.link != "lo" {
				t.Errorf("on %s: %x", frame.link, frame.data)
			}
		}
		if err := ns.Verify(t.Context()); err != nil {
			t.Errorf("after the attacks: %v", err)
		}
		netnstest.Reenter(t, ns, netnstest.Owner, userVar+"="+string(netnstest.Owner))
		if len(link.frames(t)) == 0 {
			t.Error("the owner's attacks sent nothing at all")
		}
		world.mustBeQuiet(t)
	})
}

// discard accepts and hangs up, and swallows datagrams, until the test ends.
func discard(t *testing.T, ns *netsetup.Namespace) {
	done := make(chan struct{}, 3)
	for _, l := range []*net.TCPListener{ns.TCP(), ns.DNSStream()} {
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
	}
	go func() {
		defer func() { done <- struct{}{} }()
		for b := make([]byte, 1500); ; {
			if _, _, err := ns.DNSPacket().ReadFrom(b); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		ns.TCP().Close()
		ns.DNSStream().Close()
		ns.DNSPacket().Close()
		for range 3 {
			<-done
		}
	})
}

// world is the outside, with servers that greet, and a tap on all its links.
type world struct {
	tap     *tap
	packets net.PacketConn
}

func newWorld(t *testing.T) *world {
	t.Helper()
	for _, host := range outside { // a route, unlike an address of IPv6, holds at once
		run(t, "ip", "route", "add", "local", host, "dev", "lo")
		t.Cleanup(func() { run(t, "ip", "route", "del", "local", host, "dev", "lo") })
	}
	l, err := net.Listen("tcp", ":443")
	if err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", ":443")
	if err != nil {
		t.Fatal(err)
	}
	tap, err := newTap()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte(greeting))
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		packets.Close()
		tap.Close()
	})
	w := &world{tap: tap, packets: packets}
	w.mustHear(t)
	return w
}

// mustHear shows that the tap and the servers would notice somebody who got out.
func (w *world) mustHear(t *testing.T) {
	t.Helper()
	for _, host := range outside {
		addr := addrPort(host, 443)
		if got, err := greetingFrom(addr); got != greeting {
			t.Fatalf("the outside does not greet at %s: %q, %v", addr, got, err)
		}
		if err := sendUDP(addr); err != nil {
			t.Fatal(err)
		}
		w.packets.SetDeadline(time.Now().Add(patience))
		b := make([]byte, 100)
		if n, _, err := w.packets.ReadFrom(b); err != nil || string(b[:n]) != letter {
			t.Fatalf("the outside does not hear at %s: %q, %v", addr, b[:n], err)
		}
	}
	heard := 0
	for _, frame := range w.tap.frames(t) {
		if bytes.Contains(frame.data, []byte(letter)) {
			heard++
		}
	}
	if heard < len(outside) {
		t.Fatalf("the tap outside heard %d letters, not %d", heard, len(outside))
	}
	w.settle(t)
}

// settle waits until the kernel has said the last of the connections that were
// ours: their ends are exchanged after we have closed them.
func (w *world) settle(t *testing.T) {
	t.Helper()
	for quiet := 0; quiet < 10; quiet++ {
		if len(w.tap.frames(t)) > 0 {
			quiet = 0
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// mustBeQuiet fails if anything at all was sent outside.
func (w *world) mustBeQuiet(t *testing.T) {
	t.Helper()
	for _, frame := range w.tap.frames(t) {
		t.Errorf("outside, on %s: %x", frame.link, frame.data)
	}
	w.mustHear(t) // it was quiet, not deaf
}

func greetingFrom(addr netip.AddrPort) (string, error) {
	c, err := net.DialTimeout("tcp", addr.String(), patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	// To its end: then nothing is left for the server to say but that it knows.
	b, err := io.ReadAll(io.LimitReader(c, 100))
	return string(b), err
}

func sendUDP(addr netip.AddrPort) error {
	c, err := net.DialTimeout("udp", addr.String(), patience)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(letter))
	return err
}

// tap sees every frame on every link of the namespace it was made in.
type tap struct{ fd int }

type frame struct {
	link string
	data []byte
}

func newTap() (*tap, error) {
	all := int(htons(unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return nil, fmt.Errorf("tap: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<20) // as much as others may
		if err != nil {
			return nil, errors.Join(fmt.Errorf("tap: %w", err), unix.Close(fd))
		}
	}
	return &tap{fd}, nil
}

func (p *tap) Close() { unix.Close(p.fd) }

// frames are those seen since the last call.
func (p *tap) frames(t *testing.T) []frame {
	t.Helper()
	var frames []frame
	for b := make([]byte, 1<<16); ; {
		n, from, err := unix.Recvfrom(p.fd, b, 0)
		if errors.Is(err, unix.EAGAIN) {
			return frames
		}
		if err != nil {
			t.Fatalf("tap: %v", err)
		}
		link := from.(*unix.SockaddrLinklayer)
		name := fmt.Sprint("link ", link.Ifindex)
		if link.Hatype == unix.ARPHRD_LOOPBACK {
			name = "lo"
		}
		frames = append(frames, frame{name, bytes.Clone(b[:n])})
	}
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

// mustNotGreet fails if the outside answers at addr: a connection may well be
// made, to the worker.
func mustNotGreet(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	got, err := greetingFrom(addr)
	if strings.Contains(got, greeting) {
		t.Errorf("reached the outside at %s", addr)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection to %s hangs", addr)
	}
}
