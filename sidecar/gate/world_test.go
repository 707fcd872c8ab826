package gate_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"

	"sallyport/sidecar/gate"
	"sallyport/sidecar/mint"
)

// world is a Gate on loopback whose every connection seems to have asked for
// one address. What is not decided otherwise is handed over by its SNI.
type world struct {
	gate    *gate.Gate
	roots   *x509.CertPool
	address string
	refused chan *gate.Refusal
	through chan gate.Passage
	stop    context.CancelFunc // ends the gate

	mu       sync.Mutex
	upstream string // where every route leads
	admit    func(*gate.Flow) gate.Verdict
	decide   func(*gate.Flow) gate.Verdict
	still    func(*gate.Flow, gate.Route) bool
	passing  func(context.Context) *gate.Refusal
}

func newWorld(t *testing.T, port uint16) *world {
	t.Helper()
	authority, err := mint.New()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		address: listener.Addr().String(), roots: x509.NewCertPool(), refused: make(chan *gate.Refusal, 100), through: make(chan gate.Passage, 100),
		admit:  func(*gate.Flow) gate.Verdict { return gate.Verdict{} },
		decide: func(*gate.Flow) gate.Verdict { return gate.Verdict{} },
		still:  func(*gate.Flow, gate.Route) bool { return true },

		passing: func(context.Context) *gate.Refusal { return nil },
	}
	w.roots.AppendCertsFromPEM(authority.CertificatePEM())
	w.gate = gate.New(gate.Config{
		Listener: listener,
		OriginalDst: func(*net.TCPConn) (netip.AddrPort, bool, error) {
			return netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port), false, nil
		},
		Admit: func(_ context.Context, f *gate.Flow) gate.Verdict {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.admit(f)
		},
		Decide: func(_ context.Context, f *gate.Flow, _ func() io.Reader) gate.Verdict {
			if f.Name = f.SNI; f.TLS && f.SNI == "" {
				return gate.Verdict{Refusal: &gate.Refusal{Code: "no_sni"}}
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.decide(f)
		},
		Still: func(f *gate.Flow, r gate.Route) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.still(f, r)
		},
		Dial: func(context.Context, gate.Route) (net.Conn, *gate.Refusal) {
			w.mu.Lock()
			defer w.mu.Unlock()
			c, err := net.Dial("tcp", w.upstream)
			if err != nil {
				return nil, &gate.Refusal{Code: "upstream_unreachable"}
			}
			return c, nil
		},
		Passing: func(ctx context.Context) *gate.Refusal {
			w.mu.Lock()
			passing := w.passing
			w.mu.Unlock()
			return passing(ctx)
		},
		Certificate: authority.Leaf,
		Refused:     func(_ *gate.Flow, r *gate.Refusal) { w.refused <- r },
		Passed:      func(_ *gate.Flow, p gate.Passage) { w.through <- p },
		Log:         slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	w.stop = cancel
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.gate.Serve(ctx); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); w.gate.CloseFlows(); wg.Wait() })
	return w
}

// set changes what the world decides by.
func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func refusePort(*gate.Flow) gate.Verdict {
	return gate.Verdict{Refusal: &gate.Refusal{Code: "port"}}
}

func (w *world) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// accept takes one connection, echoes one line on it and gives its flow.
func (w *world) accept(t *testing.T) <-chan *gate.Flow {
	flows := make(chan *gate.Flow, 1)
	go func() {
		defer close(flows)
		c, err := w.gate.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		flows <- gate.FlowOf(c)
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			return
		}
		io.WriteString(c, line)
	}()
	return flows
}

func exchange(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "hello\n" {
		t.Fatalf("read %q, %v", line, err)
	}
}
