package e2e_test

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport/e2e"
)

// outside is what a sandbox must not reach: listeners on the machine, which say
// "outside" to whoever comes and count them.
type outside struct {
	address  string // of the machine
	tcp, udp int
	path     string // of a Unix socket; there is an abstract one of that name too
	visits   atomic.Int64
}

func listenOutside(t *testing.T, dir string) *outside {
	t.Helper()
	o := &outside{address: machineAddress(t), path: filepath.Join(dir, "outside.sock")}
	tcp, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	o.tcp = tcp.Addr().(*net.TCPAddr).Port
	o.serve(t, tcp)
	for _, name := range []string{o.path, "@" + o.path} {
		listener, err := net.Listen("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		o.serve(t, listener)
	}
	udp, err := net.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	o.udp = udp.LocalAddr().(*net.UDPAddr).Port
	t.Cleanup(func() { udp.Close() })
	go func() {
		for {
			_, from, err := udp.ReadFrom(make([]byte, 2048))
			if err != nil {
				return
			}
			o.visits.Add(1)
			_, _ = udp.WriteTo([]byte("outside"), from)
		}
	}()
	return o
}

func (o *outside) serve(t *testing.T, listener net.Listener) {
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			o.visits.Add(1)
			_, _ = io.WriteString(conn, "outside\n")
			conn.Close()
		}
	}()
}

// machineAddress is one that other machines could reach this one at.
func machineAddress(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		if ip, ok := address.(*net.IPNet); ok && ip.IP.To4() != nil && ip.IP.IsGlobalUnicast() {
			return ip.IP.String()
		}
	}
	t.Fatal("this machine has no IPv4 address but loopback's, so nothing could be shown to be out of reach")
	return ""
}

// TestNoWayOut tries every way out of a sandbox that comes to mind, as root in
// there. The same attempts, made outside, do get through.
func TestNoWayOut(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.CLI("agent", "create", "agent")
	o := listenOutside(t, w.AgentDir())
	attack := []string{"/usr/bin/python3", w.Client("escape.py"), o.address, fmt.Sprint(o.tcp), fmt.Sprint(o.udp), o.path}

	for name, w := range map[string]*e2e.World{"started by root": w, "started by an ordinary user": w.AsOrdinaryUser()} {
		t.Run(name, func(t *testing.T) {
			w := w.In(t)
			before := o.visits.Load()
			report := w.Run("agent", attack...)
			for line := range strings.Lines(report) {
				if strings.Contains(line, ": outside") {
					t.Errorf("a way out: %s", strings.TrimSpace(line))
				}
			}
			if !strings.Contains(report, "after flushing: ") {
				t.Errorf("not every attempt was made:\n%s", report)
			}
			if n := o.visits.Load() - before; n != 0 {
				t.Errorf("the listeners outside were reached %d times", n)
			}
			t.Logf("what came of it:\n%s", report)
		})
	}
	t.Run("outside", func(t *testing.T) {
		// The attempts that change a machine's rules are left out here.
		out, err := exec.Command(attack[0], append(attack[1:], "only-tcp")...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "tcp: outside") || o.visits.Load() == 0 {
			t.Errorf("the attempts prove nothing: %v\n%s", err, out)
		}
	})
}

// TestNames: a sandbox's resolver is the sidecar's, over UDP and TCP.
func TestNames(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.CLI("agent", "create", "agent")
	for _, tt := range []struct {
		name    string
		command []string
		some    bool // an answer is wanted
	}{
		{"libc", []string{"getent", "hosts", e2e.EchoHost}, true},
		{"udp", []string{"dig", "+short", "+tries=1", e2e.EchoHost, "A"}, true},
		{"tcp", []string{"dig", "+short", "+tcp", "+tries=1", e2e.EchoHost, "A"}, true},
		{"another server", []string{"dig", "+short", "+tries=1", "@192.0.2.53", e2e.EchoHost, "A"}, true},
		{"HTTPS records lead past us", []string{"dig", "+short", "+tries=1", e2e.EchoHost, "TYPE65"}, false},
		{"a tunnel", []string{"dig", "+short", "+tries=1", e2e.EchoHost, "TXT"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := w.In(t)
			if out := strings.TrimSpace(w.Run("agent", tt.command...)); (out != "") != tt.some {
				t.Errorf("%s printed %q", strings.Join(tt.command, " "), out)
			}
		})
	}
}
