// Package controltest runs a whole control plane for tests: a real Postgres,
// both APIs on loopback, and clients of both. Each test has a team of its own.
package controltest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/control"
	"sallyport/control/admin"
	"sallyport/control/agentapi"
	"sallyport/control/controltest/migrated"
	"sallyport/control/embedded"
	"sallyport/control/exchange"
	"sallyport/control/external"
	"sallyport/control/identity"
	"sallyport/control/registry"
	"sallyport/control/rekey"
	"sallyport/control/seal"
	"sallyport/control/store"
)

// Plane is a running control plane.
type Plane struct {
	Store      *store.Store
	Sealer     *seal.Sealer
	KEK        *seal.FileKEK
	Authority  *identity.Authority
	Services   *registry.Registry
	Rekey      *rekey.Rotator
	Succession *identity.Succession
	Admin      *admin.Server
	Sidecars   *agentapi.Server
	Log        *Log
	Outward    *http.Client // of exchanges
	Exchange   *exchange.Exchanger
	Secrets    *external.Secrets

	// Check, if it is set, looks at every answer of the admin API that Do gets.
	Check func(t *testing.T, r *http.Request, answer *http.Response, body []byte)

	AdminURL, SidecarURL string
	Owner                string // a token that may do everything
	DatabaseURL          string // as a superuser
	localhost            tls.Certificate
	metrics              *metrics
	ahead                atomic.Int64 // of the real time, in nanoseconds
}

// Main is TestMain for packages that need a control plane: it fills *p, and prepares it.
func Main(m *testing.M, p **Plane, prepare ...func(*Plane) error) {
	status, err := runMain(m, p, prepare)
	if err != nil {
		fmt.Fprintln(os.Stderr, "controltest:", err)
		status = 1
	}
	os.Exit(status)
}

func runMain(m *testing.M, p **Plane, prepare []func(*Plane) error) (status int, err error) {
	plane, stop, err := begin(0)
	if err != nil {
		return 1, err
	}
	*p = plane
	for _, f := range prepare {
		if err := f(plane); err != nil {
			return 1, errors.Join(err, stop())
		}
	}
	status = m.Run()
	return status, stop()
}

// Start runs a control plane for one test, whose clock is ahead of everybody else's.
func Start(t *testing.T, ahead time.Duration) *Plane {
	t.Helper()
	plane, stop, err := begin(ahead)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return plane
}

// begin starts a database and what uses it, in a folder of their own. stop ends all that.
func begin(ahead time.Duration) (plane *Plane, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "sallyport")
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	remove := func() error {
		cancel()
		return os.RemoveAll(dir)
	}
	log := &Log{}
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if err := migrated.Lay(dir); err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	cluster, err := embedded.Start(ctx, dir, logger)
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	plane = &Plane{Log: log, DatabaseURL: cluster.URL()}
	plane.ahead.Store(int64(ahead))
	end, err := plane.start(ctx, dir, logger)
	if err != nil {
		return nil, nil, errors.Join(err, cluster.Stop(context.Background()), remove())
	}
	return plane, func() error { return errors.Join(end(), cluster.Stop(context.Background()), remove()) }, nil
}

// start opens the parts and serves. stop ends all that.
func (p *Plane) start(ctx context.Context, dir string, log *slog.Logger) (stop func() error, err error) {
	if p.Store, err = store.Open(ctx, p.DatabaseURL, log); err != nil {
		return nil, err
	}
	kek, err := seal.OpenFileKEK(ctx, filepath.Join(dir, "kek"), p.Store)
	if err != nil {
		return nil, err
	}
	p.KEK = kek
	p.Sealer = seal.New(kek)
	p.Rekey = rekey.New(p.Store, p.Sealer, kek, log)
	if p.Authority, err = identity.Load(ctx, p.Store, kek, p.now); err != nil {
		return nil, err
	}
	p.Succession = identity.NewSuccession(p.Authority, p.Store, kek, log)
	if p.Services, err = registry.Load(); err != nil {
		return nil, err
	}
	p.Owner = admin.NewToken()
	if _, err := p.Store.CreateToken(ctx, "", control.Token{Name: "owner", Role: control.RoleOwner}, admin.HashToken(p.Owner), control.Event{Kind: "token.create", Actor: "system"}); err != nil {
		return nil, err
	}
	p.metrics = newMetrics()
	reach := Loopback()
	if p.localhost, err = newLocalhost(); err != nil {
		return nil, err
	}
	reach.Roots.AddCert(p.localhost.Leaf)
	p.Outward = exchange.NewClient(reach)
	p.Exchange = exchange.New(p.Outward, log)
	p.Secrets = external.New(p.Store, p.Sealer, p.Exchange, p.Outward, log)
	serving, err := p.serve(ctx, log)
	if err != nil {
		return nil, err
	}
	return func() error {
		err := serving()
		p.Exchange.Close()
		p.Secrets.Close()
		p.Sealer.Close()
		p.Store.Close()
		return err
	}, nil
}

func (p *Plane) serve(ctx context.Context, log *slog.Logger) (stop func() error, err error) {
	adminListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	sidecarListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.AdminURL, p.SidecarURL = "http://"+adminListener.Addr().String(), "https://"+sidecarListener.Addr().String()
	p.Admin, err = admin.New(admin.Config{
		Store: p.Store, Sealer: p.Sealer, Authority: p.Authority, Services: p.Services, Exchange: p.Exchange, Secrets: p.Secrets,
		Rekey: p.Rekey, Succession: p.Succession, Metrics: p.metrics.admin, Log: log, SidecarURL: p.SidecarURL, Version: "test",
		Strangers: admin.Pace{Rate: 1000, Burst: 100_000}, Calls: admin.Pace{Rate: 10_000, Burst: 1_000_000},
	})
	if err != nil {
		return nil, err
	}
	p.Sidecars = agentapi.New(agentapi.Config{
		Store: p.Store, Sealer: p.Sealer, Authority: p.Authority, Services: p.Services, Exchange: p.Exchange, Secrets: p.Secrets,
		Metrics: p.metrics.agentapi, Log: log, Names: []string{"127.0.0.1"},
	})
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.Admin.Serve(ctx, adminListener, nil) })
	group.Go(func() error { return p.Sidecars.Serve(ctx, sidecarListener) })
	group.Go(func() error { return p.Rekey.Run(ctx) })
	return func() error {
		cancel()
		return group.Wait()
	}, nil
}

// Loopback is where tests have the servers that secrets are exchanged with: those of
// httptest, which have one certificate.
func Loopback() exchange.Reach {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return exchange.Reach{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Roots: roots}
}

func (p *Plane) now() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }

// Advance moves the clock that certificates are checked by, until the test ends.
func (p *Plane) Advance(t *testing.T, d time.Duration) {
	p.ahead.Add(int64(d))
	t.Cleanup(func() { p.ahead.Add(-int64(d)) })
}

// Log is everything that was logged.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
