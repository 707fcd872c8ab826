package sidecar

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/control/agentapi"
	"sallyport/control/controltest"
	"sallyport/control/exchange"
	"sallyport/control/external"
	"sallyport/control/store"
)

// line is the way from replicas to the database. What the database says on it may take
// its time, that of what it notifies of apart from all else, and it may stand still.
type line struct {
	url    string
	server string
	news   atomic.Int64 // the longest that a notification takes, in nanoseconds
	rest   atomic.Int64
	still  sync.RWMutex // held while it stands still
}

func newLine(t *testing.T, databaseURL string) *line {
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	query, dir := u.Query(), t.TempDir()
	l := &line{server: filepath.Join(query.Get("host"), ".s.PGSQL.5432")}
	query.Set("host", dir)
	u.RawQuery = query.Encode()
	l.url = u.String()
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { l.carry(c) })
		}
	})
	t.Cleanup(func() { listener.Close(); conns.Wait() })
	return l
}

func (l *line) carry(c net.Conn) {
	defer c.Close()
	database, err := net.Dial("unix", l.server)
	if err != nil {
		return
	}
	defer database.Close()
	longest := &l.rest
	var listens atomic.Bool
	var back sync.WaitGroup
	back.Go(func() {
		defer c.Close()
		pass(c, database, func([]byte) {
			longest := longest
			if listens.Load() {
				longest = &l.news
			}
			if most := longest.Load(); most > 0 {
				time.Sleep(rand.N(time.Duration(most)))
			}
			l.still.RLock()
			defer l.still.RUnlock()
		})
	})
	pass(database, c, func(said []byte) {
		if bytes.Contains(said, []byte("listen sallyport_changed")) {
			listens.Store(true)
		}
	})
	database.Close()
	back.Wait()
}

// pass copies, and calls before with what is about to be passed on.
func pass(to, from net.Conn, before func([]byte)) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		before(buffer[:n])
		if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
			return
		}
	}
}

// replica is one of the control plane's.
type replica struct {
	t       *testing.T
	plane   *controltest.Plane
	line    *line
	address string
	kill    func() // as a power cut would
	drain   func() // as an operator would
}

// serve starts it, at the address that it had.
func (r *replica) serve() {
	r.t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(r.t.Context(), r.line.url, log)
	if err != nil {
		r.t.Error(err)
		return
	}
	address := r.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		r.t.Error(err)
		return
	}
	r.address = listener.Addr().String()
	client, p := exchange.NewClient(controltest.Loopback()), r.plane
	exchanger := exchange.New(client, log)
	secrets := external.New(db, p.Sealer, exchanger, client, log)
	server := agentapi.New(agentapi.Config{
		Store: db, Sealer: p.Sealer, Authority: p.Authority, Services: p.Services, Exchange: exchanger, Secrets: secrets,
		Metrics: agentapi.NewMetrics(prometheus.NewRegistry()), Log: log, Names: []string{"127.0.0.1"},
	})
	ctx, cancel := context.WithCancel(context.Background())
	ends := &endable{Listener: listener}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(ctx, ends); err != nil && !errors.Is(err, net.ErrClosed) { // which a kill may be told as
			r.t.Error(err)
		}
		exchanger.Close()
		secrets.Close()
		db.Close()
	}()
	r.drain = sync.OnceFunc(func() { cancel(); <-done })
	r.kill = sync.OnceFunc(func() { ends.end(); cancel(); <-done })
}

// endable is a listener whose connections can be cut off at once.
type endable struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (e *endable) Accept() (net.Conn, error) {
	c, err := e.Listener.Accept()
	if err == nil {
		e.mu.Lock()
		e.conns = append(e.conns, c)
		e.mu.Unlock()
	}
	return c, err
}

func (e *endable) end() {
	e.Listener.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.conns {
		c.Close()
	}
}

// kept is what a worker hands to the next.
type kept struct {
	mu    sync.Mutex
	state []byte
}

func (k *kept) Load() ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.state), nil
}

func (k *kept) Save(state []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state = slices.Clone(state)
	return nil
}

// changing is a control plane of two replicas, and a sandbox's worker, under changes.
type changing struct {
	*controltest.Team
	t        *testing.T
	line     *line
	replicas [2]*replica
	sandbox  string
	proxy    *url.URL // the interception port, used as a proxy
	trust    *x509.CertPool
	lanes    map[string]*lane // by host
}

// newChanging has a vault and a credential for each kind, all pinned to an agent.
func newChanging(t *testing.T) *changing {
	plane := controltest.Start(t, -50*time.Minute) // certificates are due when they are made
	c := &changing{Team: plane.NewTeam(t), t: t, line: newLine(t, plane.DatabaseURL), lanes: map[string]*lane{}}
	c.Must(t, "POST", "agents", map[string]any{"name": "a"}, nil)
	for _, k := range kinds(t, newTokens(t)) {
		l := &lane{kind: k, changing: c, host: k.name + ".changes.test", when: map[int]int{}}
		l.add()
		c.lanes[l.host] = l
	}
	service, upstreamCA := newService(t, c.lanes)
	for i := range c.replicas {
		r := &replica{t: t, plane: plane, line: c.line}
		r.serve()
		t.Cleanup(func() { r.drain() })
		c.replicas[i] = r
	}
	c.startWorker(service, upstreamCA)
	return c
}

func (c *changing) startWorker(service string, upstreamCA []byte) {
	t := c.t
	id, joinToken := c.NewSandbox(t)
	c.sandbox = id
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	streams, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.proxy = &url.URL{Scheme: "http", Host: listener.Addr().String()}
	c.trust = x509.NewCertPool()
	to, port, _ := net.SplitHostPort(service)
	ready := make(chan struct{})
	config := Config{
		Control: "https://" + c.replicas[0].address + ",https://" + c.replicas[1].address, JoinToken: []byte(joinToken), State: &kept{},
		TCP: listener.(*net.TCPListener), DNSPacket: packets, DNSStream: streams,
		AuditJournal: make([]byte, AuditJournalSize()), UpstreamCAs: [][]byte{upstreamCA}, ConnectTo: []string{":443:" + to + ":" + port},
		Version: "test", Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Ready: func(caPEM []byte) error {
			c.trust.AppendCertsFromPEM(caPEM)
			close(ready)
			return nil
		},
		original: func(conn *net.TCPConn) (netip.AddrPort, bool, error) {
			return netip.MustParseAddrPort(conn.LocalAddr().String()), true, nil
		},
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, config) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
}

// client goes through the worker: by HTTP/2 if the service speaks it, and by a
// connection for each request if they are not kept.
func (c *changing) client(http2, keep bool) *http.Client {
	transport := &http.Transport{
		Proxy: http.ProxyURL(c.proxy), TLSClientConfig: &tls.Config{RootCAs: c.trust}, ForceAttemptHTTP2: http2, DisableKeepAlives: !keep,
	}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 60 * time.Second}
}
