package outside

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// greeting is what the listeners outside say to whoever comes.
const greeting = "outside\n"

// witness is the outside that nobody may reach.
type witness struct {
	socket string // path of a Unix socket; there is an abstract one of that name too
	tap    int
	visits atomic.Int64 // to listeners

	mu     sync.Mutex
	frames [][]byte // that are no business of the sidecar's
	asked  []string // of the resolver
}

// ports are those that attacks go for.
var (
	tcpPorts = []int{
		1, 7, 21, 22, 23, 25, 80, 110, 143, 443, 465, 587, 853, 993, 1080, 1194, 3128, 3306, 3389, 4444, 5222, 5432, 6379, 6667,
		8080, 8200, 8201, 8443, 9001, 9090, 9418, 11211, 15001, 15053, 27017, 50051, 65535,
	}
	udpPorts = []int{
		1, 67, 69, 123, 137, 161, 443, 500, 514, 546, 784, 853, 1194, 1900, 3478, 4433, 4444, 4500, 4789, 5353, 5683, 8443, 15053, 33434, 41641, 51820, 65535,
	}
)

// newWitness makes every address a local one and listens at all of them.
func newWitness(t *testing.T) *witness {
	t.Helper()
	dir, err := os.MkdirTemp("/var/lib", "sallyport-escape-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{
		"ip route add local 0.0.0.0/0 dev lo", "ip -6 route add local ::/0 dev lo",
		// A link beside the loopback, which says nothing by itself.
		"ip link add wan0 type veth peer name wan1", "sysctl -qw net.ipv6.conf.wan0.disable_ipv6=1 net.ipv6.conf.wan1.disable_ipv6=1",
		"ip addr add 192.0.0.2/30 dev wan0", "ip link set wan0 up", "ip link set wan1 up",
		"sysctl -qw net.ipv4.ping_group_range=0\t2147483647",
	} {
		run(t, strings.Split(command, " ")...)
	}
	t.Cleanup(func() {
		for _, command := range []string{"ip route del local 0.0.0.0/0 dev lo", "ip -6 route del local ::/0 dev lo", "ip link del wan0"} {
			run(t, strings.Split(command, " ")...)
		}
	})
	w := &witness{socket: filepath.Join(dir, "outside.sock")}
	w.resolve(t, dir)
	for _, port := range tcpPorts {
		w.listen(t, "tcp", fmt.Sprint(":", port))
	}
	w.listen(t, "unix", w.socket)
	w.listen(t, "unix", "@"+w.socket)
	if err := os.Chmod(w.socket, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, port := range udpPorts {
		w.hear(t, port)
	}
	w.watch(t)
	return w
}

func run(t *testing.T, command ...string) {
	t.Helper()
	if output, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, output)
	}
}

func (w *witness) listen(t *testing.T, network, address string) {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.visits.Add(1)
			serving.Go(func() {
				defer conn.Close()
				if _, err := conn.Write([]byte(greeting)); err == nil && network == "tcp" {
					conn.Read(make([]byte, 4096)) // so that closing resets nothing
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		serving.Wait()
	})
}

// hear answers datagrams.
func (w *witness) hear(t *testing.T, port int) {
	t.Helper()
	conn, err := net.ListenPacket("udp", fmt.Sprint(":", port))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for b := make([]byte, 2048); ; {
			_, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			w.visits.Add(1)
			_, _ = conn.WriteTo([]byte(greeting), from)
		}
	})
	t.Cleanup(func() {
		conn.Close()
		serving.Wait()
	})
}

// records are what the resolver knows: names that lead where nobody may go.
const records = `
metadata.attack.test. 0 A 169.254.169.254
metadata6.attack.test. 0 AAAA fd00:ec2::254
loopback.attack.test. 0 A 127.0.0.1
loopback6.attack.test. 0 AAAA ::1
private.attack.test. 0 A 10.0.0.7
mapped.attack.test. 0 AAAA ::ffff:169.254.169.254
nat64.attack.test. 0 AAAA 64:ff9b::a9fe:a9fe
alias.attack.test. 0 CNAME metadata.attack.test.
mixed.attack.test. 0 A 169.254.169.254
mixed.attack.test. 0 A 127.0.0.1
mixed.attack.test. 0 AAAA fd00:ec2::254
metadata.google.internal. 0 A 169.254.169.254
169.254.169.254.nip.io. 0 A 169.254.169.254
`

// resolve is the machine's resolver. It answers what is under tunnel.test with what the
// question says, as a tunnel's end does.
func (w *witness) resolve(t *testing.T, dir string) {
	t.Helper()
	zone := map[dns.Question][]dns.RR{}
	parser := dns.NewZoneParser(strings.NewReader(records), ".", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
			q := dns.Question{Name: rr.Header().Name, Qtype: kind, Qclass: dns.ClassINET}
			if rr.Header().Rrtype == kind || rr.Header().Rrtype == dns.TypeCNAME {
				zone[q] = append(zone[q], rr)
			}
		}
	}
	if err := parser.Err(); err != nil {
		t.Fatal(err)
	}
	handler := dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		asked := q.Question[0]
		w.mu.Lock()
		w.asked = append(w.asked, strings.ToLower(asked.Name))
		w.mu.Unlock()
		key := asked
		key.Name = strings.ToLower(key.Name)
		switch {
		case strings.HasSuffix(key.Name, ".tunnel.test."):
			header := dns.RR_Header{Name: asked.Name, Rrtype: asked.Qtype, Class: dns.ClassINET}
			switch asked.Qtype {
			case dns.TypeA:
				m.Answer = []dns.RR{&dns.A{Hdr: header, A: net.IPv4(198, 18, 0, 1)}}
			case dns.TypeTXT:
				m.Answer = []dns.RR{&dns.TXT{Hdr: header, Txt: []string{greeting}}}
			}
		case zone[key] != nil:
			m.Answer = zone[key]
		default:
			m.Rcode = dns.RcodeNameError
		}
		_ = rw.WriteMsg(m) // else the question is asked again
	})
	for _, network := range []string{"udp", "tcp"} {
		var serving sync.WaitGroup
		started := make(chan struct{})
		server := &dns.Server{Addr: ":53", Net: network, Handler: handler, NotifyStartedFunc: func() { close(started) }}
		failed := make(chan error, 1)
		serving.Go(func() { failed <- server.ListenAndServe() })
		select {
		case <-started:
		case err := <-failed:
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = server.Shutdown()
			serving.Wait()
		})
	}
	conf := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 127.0.0.53\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// This mount namespace is the tests' own.
	if err := unix.Mount(conf, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/etc/resolv.conf", unix.MNT_DETACH) })
}

// watch looks at every frame on every link from now on.
func (w *witness) watch(t *testing.T) {
	t.Helper()
	var err error
	if w.tap, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL))); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(w.tap, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
		t.Fatal(err)
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 1<<17); ; {
			n, _, err := unix.Recvfrom(w.tap, b, 0)
			switch {
			case errors.Is(err, unix.EAGAIN):
				fds := []unix.PollFd{{Fd: int32(w.tap), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
				if _, err := unix.Poll(fds, -1); err == nil && fds[1].Revents != 0 {
					return
				}
			case err == nil && suspicious(b[:n]):
				w.mu.Lock()
				w.frames = append(w.frames, bytes.Clone(b[:n]))
				w.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		unix.Write(stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		<-done
		unix.Close(w.tap)
		unix.Close(stop)
	})
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

// suspicious is what is not between two addresses of loopback, or says what attacks say.
func suspicious(frame []byte) bool {
	if len(frame) < 14+20 || bytes.Contains(frame, []byte("let me out")) {
		return true
	}
	packet := frame[14:]
	var source, destination netip.Addr
	switch kind := uint16(frame[12])<<8 | uint16(frame[13]); {
	case kind == unix.ETH_P_IP:
		source, destination = netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
	case kind == unix.ETH_P_IPV6 && len(packet) >= 40:
		source, destination = netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:]))
	default:
		return true
	}
	return !source.IsLoopback() || !destination.IsLoopback()
}

// drops are the frames that the tap lost since the last call.
func (w *witness) drops(t *testing.T) uint32 {
	t.Helper()
	stats, err := unix.GetsockoptTpacketStats(w.tap, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		t.Fatal(err)
	}
	return stats.Drops
}

// take gives what was seen since the last call.
func (w *witness) take() (frames [][]byte, asked []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	frames, asked = w.frames, w.asked
	w.frames, w.asked = nil, nil
	return frames, asked
}
