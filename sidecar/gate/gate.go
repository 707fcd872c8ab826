// Package gate is the sandbox's inner door. It accepts every connection the
// sandbox makes, sees where it wanted to go, and hands over those that may pass,
// with TLS ended, as a net.Listener. It knows no HTTP.
//
//	accept ─ original destination ─ peek ─ decide ─┬─ end TLS ─ Listener
//	                                               └─ reset
package gate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Refusal says why a flow is reset, and what would let it pass.
type Refusal struct {
	Code string
	Hint string
}

// Config is what a Gate depends on.
type Config struct {
	// Listener is the interception port, inside the sealed namespace.
	Listener *net.TCPListener
	// OriginalDst gives the address a redirected connection asked for.
	OriginalDst func(*net.TCPConn) (dst netip.AddrPort, direct bool, err error)
	// Admit is asked when the destination is known, before a byte is read. nil
	// lets the flow pass.
	Admit func(*Flow) *Refusal
	// Certificate gives the leaf for a name.
	Certificate func(ctx context.Context, name string) (*tls.Certificate, error)
	// Refused is told of every flow that did not pass, for logs and metrics.
	Refused func(*Flow, *Refusal)
	Log     *slog.Logger
}

// helloTimeout bounds how long a client may take to say what it wants.
const helloTimeout = 15 * time.Second

// Gate accepts and hands over. Serve runs it; Accept gives what passed.
type Gate struct {
	config Config
	tls    *tls.Config
	passed chan net.Conn
	done   chan struct{}
	once   sync.Once

	mu   sync.Mutex
	open map[*conn]struct{} // handed over and not closed yet
}

// New makes a Gate.
func New(config Config) *Gate {
	g := &Gate{config: config, passed: make(chan net.Conn), done: make(chan struct{}), open: make(map[*conn]struct{})}
	g.tls = &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return config.Certificate(hello.Context(), FlowOf(hello.Conn).SNI)
		},
	}
	return g
}

// Serve accepts until ctx ends or the Gate is closed, and waits for what it began.
func (g *Gate) Serve(ctx context.Context) error {
	var flows sync.WaitGroup
	defer flows.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer g.Close()
	stop := context.AfterFunc(ctx, func() { g.Close() })
	defer stop()

	var delay time.Duration
	for {
		raw, err := g.config.Listener.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			// Out of descriptors, most likely: waiting gives flows time to end.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			g.config.Log.Warn("accept failed", "error", err, "retry_in", delay)
			select {
			case <-time.After(delay):
			case <-g.done:
			}
			continue
		}
		delay = 0
		flows.Go(func() { g.receive(ctx, raw) })
	}
}

// receive takes one connection as far as the Listener, or resets it.
func (g *Gate) receive(ctx context.Context, raw *net.TCPConn) {
	flow := &Flow{Accepted: time.Now(), Client: addrPort(raw.RemoteAddr())}
	interrupt := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	passed, refusal := g.admit(ctx, raw, flow)
	if !interrupt() && refusal == nil {
		refusal = &Refusal{Code: "closing", Hint: "the sidecar is stopping"}
	}
	if refusal != nil {
		g.config.Refused(flow, refusal)
		reset(raw)
		return
	}
	select {
	case g.passed <- passed:
	case <-g.done:
		passed.Close()
		reset(raw)
	}
}

func (g *Gate) admit(ctx context.Context, raw *net.TCPConn, flow *Flow) (net.Conn, *Refusal) {
	var err error
	flow.Original, flow.Direct, err = g.config.OriginalDst(raw)
	if err != nil {
		return nil, &Refusal{Code: "no_destination", Hint: err.Error()}
	}
	if refusal := g.config.Admit(flow); refusal != nil {
		return nil, refusal
	}
	if err := raw.SetDeadline(flow.Accepted.Add(helloTimeout)); err != nil {
		return nil, &Refusal{Code: "client_gone", Hint: err.Error()}
	}
	peeked, err := peek(raw, flow)
	if err != nil {
		return nil, peekRefusal(err)
	}
	g.track(peeked)
	passed, refusal := g.secure(ctx, peeked, flow)
	if refusal == nil {
		refusal = clearDeadline(raw)
	}
	if refusal != nil {
		g.forget(peeked)
	}
	return passed, refusal
}

// secure ends TLS, where the client speaks it.
func (g *Gate) secure(ctx context.Context, peeked *conn, flow *Flow) (net.Conn, *Refusal) {
	if !flow.TLS {
		return peeked, nil
	}
	if flow.SNI == "" {
		return nil, &Refusal{Code: "no_sni", Hint: "the client named no host in its TLS hello; connect by name, not by address"}
	}
	secured := tls.Server(peeked, g.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, handshakeRefusal(err)
	}
	flow.Protocol = secured.ConnectionState().NegotiatedProtocol
	return secured, nil
}

func (g *Gate) track(c *conn) {
	c.closed = func() { g.forget(c) }
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open[c] = struct{}{}
}

func (g *Gate) forget(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, c)
}

// Open is how many connections were handed over and are not closed yet.
func (g *Gate) Open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.open)
}

// CloseFlows closes every connection handed over, those included that changed
// their protocol and that no HTTP server waits for any more.
func (g *Gate) CloseFlows() {
	g.mu.Lock()
	open := slices.Collect(maps.Keys(g.open))
	g.mu.Unlock()
	for _, c := range open {
		// Its holder may have closed it meanwhile.
		_ = c.Close()
	}
}

func clearDeadline(raw net.Conn) *Refusal {
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return &Refusal{Code: "client_gone", Hint: err.Error()}
	}
	return nil
}

func peekRefusal(err error) *Refusal {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return &Refusal{Code: "client_gone", Hint: err.Error()}
	}
	return &Refusal{Code: "bad_hello", Hint: err.Error()}
}

// distrust are the alerts by which a client says that it does not trust our
// leaf. crypto/tls gives a peer's alert by its text alone.
var distrust = []string{"bad certificate", "unknown certificate", "unknown certificate authority", "certificate unknown"}

// handshakeRefusal tells a client that does not trust the sandbox's CA from any
// other failure, since only the first has a remedy.
func handshakeRefusal(err error) *Refusal {
	var alert *net.OpError
	if errors.As(err, &alert) && alert.Op == "remote error" {
		for _, text := range distrust {
			if strings.HasSuffix(alert.Err.Error(), text) {
				return &Refusal{Code: "untrusted_ca", Hint: "the client does not trust the sandbox's CA; let it read SSL_CERT_FILE or the system's bundle, and turn off certificate pinning"}
			}
		}
	}
	return &Refusal{Code: "tls_failed", Hint: fmt.Sprintf("TLS handshake: %v", err)}
}

// reset ends a connection so that the client sees an error at once and nothing
// of ours lingers.
func reset(raw *net.TCPConn) {
	// Both fail only where the connection is gone already.
	_ = raw.SetLinger(0)
	_ = raw.Close()
}

// Accept gives the next connection that passed: a *tls.Conn, or the plain
// connection of a client that spoke no TLS. FlowOf tells its flow.
func (g *Gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.passed:
		return c, nil
	case <-g.done:
		return nil, net.ErrClosed
	}
}

// Close stops accepting. Connections handed over are their holder's.
func (g *Gate) Close() error {
	g.once.Do(func() {
		close(g.done)
		g.config.Listener.Close()
	})
	return nil
}

// Addr is the interception port.
func (g *Gate) Addr() net.Addr { return g.config.Listener.Addr() }

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
