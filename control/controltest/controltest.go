// Package controltest runs a whole control plane for tests: a real Postgres,
// both APIs on loopback, and clients of both. Each test has a team of its own.
package controltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
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
	"sallyport/control/embedded"
	"sallyport/control/exchange"
	"sallyport/control/identity"
	"sallyport/control/registry"
	"sallyport/control/seal"
	"sallyport/control/store"
)

// Plane is a running control plane.
type Plane struct {
	Store     *store.Store
	Sealer    *seal.Sealer
	Authority *identity.Authority
	Services  *registry.Registry
	Exchange  *exchange.Exchanger
	Admin     *admin.Server
	Log       *Log

	AdminURL, SidecarURL string
	Owner                string // a token that may do everything
	databaseURL          string
	metrics              *metrics
	ahead                atomic.Int64 // of the real time, in nanoseconds
}

// Main is TestMain for packages that need a control plane: it fills *p.
func Main(m *testing.M, p **Plane) {
	status, err := runMain(m, p)
	if err != nil {
		fmt.Fprintln(os.Stderr, "controltest:", err)
		status = 1
	}
	os.Exit(status)
}

func runMain(m *testing.M, p **Plane) (status int, err error) {
	dir, err := os.MkdirTemp("", "sallyport")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	log := &Log{}
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cluster, err := embedded.Start(ctx, dir, logger)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, cluster.Stop(context.Background())) }()
	plane := &Plane{Log: log, databaseURL: cluster.URL()}
	stop, err := plane.start(ctx, dir, logger)
	if err != nil {
		return 1, err
	}
	*p = plane
	status = m.Run()
	return status, stop()
}

// start opens the parts and serves. stop ends all that.
func (p *Plane) start(ctx context.Context, dir string, log *slog.Logger) (stop func() error, err error) {
	if p.Store, err = store.Open(ctx, p.databaseURL, log); err != nil {
		return nil, err
	}
	kek, err := seal.OpenFileKEK(ctx, filepath.Join(dir, "kek"), p.Store)
	if err != nil {
		return nil, err
	}
	p.Sealer = seal.New(kek)
	if p.Authority, err = identity.Load(ctx, p.Store, kek, p.now); err != nil {
		return nil, err
	}
	if p.Services, err = registry.Load(); err != nil {
		return nil, err
	}
	p.Owner = admin.NewToken()
	if _, err := p.Store.CreateToken(ctx, "", control.Token{Name: "owner", Role: control.RoleOwner}, admin.HashToken(p.Owner), control.Event{Kind: "token.create", Actor: "system"}); err != nil {
		return nil, err
	}
	p.metrics = newMetrics()
	p.Exchange = exchange.New()
	serving, err := p.serve(ctx, log)
	if err != nil {
		return nil, err
	}
	return func() error {
		err := serving()
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
		Store: p.Store, Sealer: p.Sealer, Authority: p.Authority, Services: p.Services, Exchange: p.Exchange,
		Metrics: p.metrics.admin, Log: log, SidecarURL: p.SidecarURL, Version: "test",
	})
	if err != nil {
		return nil, err
	}
	sidecars := agentapi.New(agentapi.Config{
		Store: p.Store, Sealer: p.Sealer, Authority: p.Authority, Services: p.Services, Exchange: p.Exchange,
		Metrics: p.metrics.agentapi, Log: log, Names: []string{"127.0.0.1"},
	})
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.Admin.Serve(ctx, adminListener, nil) })
	group.Go(func() error { return sidecars.Serve(ctx, sidecarListener) })
	return func() error {
		cancel()
		return group.Wait()
	}, nil
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
