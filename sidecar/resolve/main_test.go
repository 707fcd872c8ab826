package resolve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

const inside = "SALLYPORT_RESOLVE_TEST_INSIDE"

// TestMain runs the tests again in network and mount namespaces of their own,
// where a part of the public internet is ours and resolv.conf names 127.0.0.1.
func TestMain(m *testing.M) {
	switch os.Getenv(inside) {
	case "":
		os.Exit(enter())
	case "entered":
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "furnish the namespace:", err)
			os.Exit(1)
		}
		os.Setenv(inside, "furnished") // for the workers of a fuzzer
	}
	goleak.VerifyTestMain(m)
}

func enter() int {
	command := exec.Command("/proc/self/exe", os.Args[1:]...)
	command.Env = append(os.Environ(), inside+"=entered")
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		command.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		command.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	err := command.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "enter the namespace:", err)
		return 1
	}
	return 0
}

func furnish() error {
	for _, line := range []string{
		"link set lo up",
		"route add local 93.184.0.0/16 dev lo src 127.0.0.1",
		"-6 route add local 2606:2800::/32 dev lo src ::1",
		"address add 93.185.0.1/32 dev lo",
		"-6 address add 2606:2900::1/128 dev lo",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	for file, text := range map[string]string{
		"/etc/resolv.conf":   "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n",
		"/etc/nsswitch.conf": "hosts: files dns\n",
	} {
		own, err := os.CreateTemp("", "resolve-test-")
		if err != nil {
			return err
		}
		defer os.Remove(own.Name())
		if _, err := own.WriteString(text); err != nil {
			return err
		}
		if err := errors.Join(own.Chmod(0o644), own.Close(), syscall.Mount(own.Name(), file, "", syscall.MS_BIND, "")); err != nil {
			return err
		}
	}
	return nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// upstream is a real name server with the zone of a test.
type upstream struct {
	address netip.AddrPort

	mu     sync.Mutex
	asked  []string // "NAME TYPE", in order
	zone   []dns.RR
	change func(w dns.ResponseWriter, m *dns.Msg) // of a response before it is sent
}

// newUpstream serves the records of a zone file until the test ends.
func newUpstream(t *testing.T, zone string) *upstream {
	t.Helper()
	u := &upstream{}
	// A line that begins with a blank would go on with the owner before it.
	zone = strings.ReplaceAll(zone, "\n\t\t", "\n")
	parser := dns.NewZoneParser(strings.NewReader(zone), ".", "")
	parser.SetDefaultTTL(300)
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		u.zone = append(u.zone, rr)
	}
	if err := parser.Err(); err != nil {
		t.Fatal(err)
	}
	packets, stream := sockets(t, "127.0.0.1:0")
	u.address = must(netip.ParseAddrPort(packets.LocalAddr().String()))
	for _, server := range []*dns.Server{{PacketConn: packets}, {Listener: stream}} {
		server.Handler = u
		started, done := make(chan struct{}), make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(done); server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { server.Shutdown(); <-done })
	}
	return u
}

// sockets gives a UDP and a TCP socket of the same port.
func sockets(t *testing.T, address string) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 100 {
		stream := must(net.Listen("tcp", address))
		packets, err := net.ListenPacket("udp", stream.Addr().String())
		if err == nil {
			return packets, stream
		}
		stream.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

// ServeDNS answers as a recursive server does: the whole chain of aliases.
func (u *upstream) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	u.mu.Lock()
	defer u.mu.Unlock()
	asked := q.Question[0]
	u.asked = append(u.asked, asked.Name+" "+dns.TypeToString[asked.Qtype])
	m := new(dns.Msg).SetReply(q)
	m.Rcode = dns.RcodeNameError
	name := strings.ToLower(asked.Name)
	for range 10 {
		next := ""
		for _, rr := range u.zone {
			if rr.Header().Name != name {
				continue
			}
			m.Rcode = dns.RcodeSuccess
			if alias, ok := rr.(*dns.CNAME); ok {
				next = alias.Target
			}
			if rr.Header().Rrtype == asked.Qtype || next != "" {
				m.Answer = append(m.Answer, rr)
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	size := dns.MaxMsgSize
	if w.RemoteAddr().Network() == "udp" {
		size = 512
		if opt := q.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
		}
	}
	m.Truncate(size)
	if u.change != nil {
		u.change(w, m)
	}
	if m.Id != 0 {
		w.WriteMsg(m)
	}
}

func (u *upstream) set(change func(w dns.ResponseWriter, m *dns.Msg)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.change = change
}

func (u *upstream) questions() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string{}, u.asked...)
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// newResolver makes a resolver that asks u, and reads hosts instead of /etc/hosts.
func newResolver(t *testing.T, u *upstream, hosts string, connectTo ...string) *Resolver {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(file, []byte(hosts), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{ConnectTo: connectTo, Servers: []netip.AddrPort{u.address}, Hosts: file, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// accepting is a listener at address that counts whom it accepts.
func accepting(t *testing.T, address string) (port uint16, accepted <-chan net.Addr) {
	t.Helper()
	l := must(net.Listen("tcp", address))
	all, done := make(chan net.Addr, 100), make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all <- c.LocalAddr()
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), all
}

func dialled(ctx context.Context, r *Resolver, host string, port uint16) (netip.AddrPort, error) {
	c, err := r.Dial(ctx, host, port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer c.Close()
	return c.RemoteAddr().(*net.TCPAddr).AddrPort(), nil
}
