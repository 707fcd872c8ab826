// Package sidecar is the worker: it joins the parts that take one sandbox's
// requests from the sealed namespace to the services they are for, and adds the
// credentials there.
//
//	gate ─ mint          the inner door: peek, decide, end TLS or pass through
//	  └ strict           one reading of HTTP/1
//	     └ proxy         one record a request
//	         ├ bind      the agent's policy; which credential, if any
//	         ├ approve   a person's decision, where the credential asks for one
//	         ├ allot     what the credential's rate and budget leave
//	         ├ material  leased from the control plane
//	         ├ inject    put where the rule says
//	         ├ scan      placeholders, on the way out
//	         ├ resolve   the upstream, by our own resolver
//	         ├ redact    material, on the way back
//	         ├ capture   new secrets, on the way back
//	         └ audit     what happened
package sidecar

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"sallyport/netsetup"
	"sallyport/sidecar/allot"
	"sallyport/sidecar/approve"
	"sallyport/sidecar/audit"
	"sallyport/sidecar/gate"
	"sallyport/sidecar/identity"
	"sallyport/sidecar/inject"
	"sallyport/sidecar/material"
	"sallyport/sidecar/mint"
	"sallyport/sidecar/proxy"
	"sallyport/sidecar/resolve"
	"sallyport/sidecar/strict"
)

// StateStore keeps what a worker must hand to the one that takes over when it
// dies. It holds private keys.
type StateStore interface {
	Load() ([]byte, error) // empty when nothing was saved
	Save([]byte) error
}

// Config is what a worker is given.
type Config struct {
	Control   string     // URL of the sidecar API
	JoinToken []byte     // one-time; wiped after use; not needed once State holds an identity
	State     StateStore // survives the worker

	// The sockets made inside the sealed namespace.
	TCP       *net.TCPListener
	DNSPacket net.PacketConn
	DNSStream net.Listener

	AuditJournal []byte     // of AuditJournalSize; survives the worker
	AuditLog     audit.File // survives the sidecar; nil for none

	UpstreamCAs [][]byte     // PEM; trusted for upstreams beside the system's roots
	ConnectTo   []string     // HOST1:PORT1:HOST2:PORT2, as curl's --connect-to
	Metrics     net.Listener // nil for none
	Version     string
	Log         *slog.Logger

	// Ready is called once, when the sandbox is enrolled and served, with the
	// certificate it must trust.
	Ready func(caPEM []byte) error

	// original is where a connection was going; netsetup.OriginalDst, but in tests
	// without a sealed namespace.
	original func(*net.TCPConn) (dst netip.AddrPort, direct bool, err error)
}

// auditCapacity bounds the events that wait for the control plane.
const auditCapacity = 10_000

// AuditJournalSize is the bytes of Config.AuditJournal.
func AuditJournalSize() int { return audit.JournalSize(auditCapacity) }

// worker is the parts, joined.
type worker struct {
	config    Config
	log       *slog.Logger
	identity  *identity.Identity
	ca        *mint.Authority
	resolver  *resolve.Resolver
	leases    *material.Cache
	fallbacks *material.Cache // of the versions before, where they overlap
	allotted  *allot.Ledger
	desk      *approve.Desk
	events    *audit.Queue
	bodies    *inject.Budget // of those that wait to be signed
	gate      *gate.Gate
	proxy     *proxy.Server
	metrics   *metrics

	served   atomic.Pointer[served]
	captured atomic.Uint64 // the revision that binds what was captured last
	heard    chan struct{} // closed when the control plane has said what is served
	hear     sync.Once

	changing sync.Mutex
	changed  chan struct{} // closed when another revision is served

	ready  sync.Once
	failed chan error // why it can't go on, at most one
}

// Run serves one sandbox until ctx ends, then lets requests under way finish.
func Run(ctx context.Context, config Config) error {
	w, err := open(ctx, config)
	if err != nil {
		return err
	}
	defer w.identity.Close()
	config.Log.Info("sandbox joined", "team", w.identity.Team(), "agent", w.identity.Agent(), "sandbox", w.identity.Sandbox())
	return w.run(ctx)
}

func open(ctx context.Context, config Config) (*worker, error) {
	w := &worker{config: config, log: config.Log, heard: make(chan struct{}), changed: make(chan struct{}), failed: make(chan error, 1)}
	if config.original == nil {
		config.original = netsetup.OriginalDst
	}
	w.served.Store(nothing(errStarting))
	err := checkUpstreamCAs(config.UpstreamCAs) // before the join token is used up
	if err != nil {
		return nil, err
	}
	w.resolver, err = resolve.New(resolve.Config{ConnectTo: config.ConnectTo, Ask: w.mayAsk, Log: config.Log})
	if err != nil {
		return nil, err
	}
	// Hundreds of certificates are read while the control plane is waited for.
	var reading errgroup.Group
	var roots *x509.CertPool
	reading.Go(func() (err error) {
		roots, err = upstreamRoots(config.UpstreamCAs)
		return err
	})
	id, ca, err := join(ctx, config)
	if err := errors.Join(err, reading.Wait()); err != nil {
		if id != nil {
			id.Close()
		}
		return nil, err
	}
	id.Log = config.Log
	w.identity, w.ca = id, ca
	w.leases = material.NewCache(id.Client(), id.SealKey(), config.Log)
	w.fallbacks = material.NewCache(id.Client(), id.SealKey(), config.Log)
	w.events = audit.New(audit.Config{
		Client: id.Client(), Capacity: auditCapacity, Journal: config.AuditJournal, Disk: config.AuditLog,
		Owner: fmt.Sprintf("sallyport audit log v1: team %s, agent %s, sandbox %s\n", id.Team(), id.Agent(), id.Sandbox()), Log: config.Log,
	})
	w.allotted, w.desk = allot.New(id.Client()), approve.New(id.Client())
	w.bodies = inject.NewBudget(mostHeld)
	w.gate = gate.New(gate.Config{
		Listener:    config.TCP,
		OriginalDst: config.original,
		Admit:       w.admit,
		Decide:      w.decide,
		Still:       w.still,
		Dial:        w.dialRoute,
		Passing:     w.passing,
		Certificate: ca.Leaf,
		Gather:      func(c net.Conn) net.Conn { return w.proxy.Gather(c) },
		Refused:     w.refused,
		Passed:      w.passed,
		Log:         config.Log,
	})
	w.proxy = proxy.New(proxy.Config{
		Facts:     facts,
		Plan:      w.plan,
		Explain:   explain,
		Intend:    w.intend,
		Recalled:  w.recalled,
		Opened:    w.opened,
		Malformed: w.malformedHTTP2,
		Finish:    w.finish,
		Tunnel:    w.tunnel,
		Idle:      w.gate.Idle,
		Dial:      w.dial,
		Roots:     roots,
		Log:       config.Log,
	})
	w.metrics = newMetrics(w)
	return w, nil
}

// run starts the parts and ends them in the order in which they need each
// other: the doors first, then the record of what came through them, then what served it.
func (w *worker) run(ctx context.Context) error {
	behind, stopBehind := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBehind()
	record, stopRecord := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRecord()

	var recorder, services errgroup.Group
	recorder.Go(func() error { return w.events.Run(record) })
	serve := func(part func(context.Context) error) {
		services.Go(func() error {
			err := part(behind)
			if err != nil {
				w.fail(err)
			}
			return err
		})
	}
	serve(w.leases.Run)
	serve(w.fallbacks.Run)
	serve(rest)
	serve(w.follow)
	serve(w.expire)
	serve(w.keepIdentity)
	if w.config.Metrics != nil {
		serve(func(ctx context.Context) error { return w.metrics.serve(ctx, w.config.Metrics) })
	}

	front, doors := errgroup.WithContext(ctx)
	front.Go(func() error { return w.gate.Serve(doors) })
	front.Go(func() error { return w.proxy.Serve(doors, strictListener{w}) })
	front.Go(func() error { return w.resolver.ServeDNS(doors, w.config.DNSPacket, w.config.DNSStream) })
	front.Go(func() error {
		select {
		case err := <-w.failed:
			return err // services.Wait tells it too, once they have ended
		case <-doors.Done():
			return nil
		}
	})

	err := front.Wait()
	w.gate.CloseFlows()
	w.desk.Wait() // for requests that have ended, and their questions with them
	// While the stream is followed: a report is taken from who holds the newest one,
	// which may just have been opened, and nobody knows it yet.
	stopRecord()
	err = errors.Join(err, recorder.Wait())
	stopBehind()
	return errors.Join(err, services.Wait())
}

// fail ends the worker with an error.
func (w *worker) fail(err error) {
	select {
	case w.failed <- err:
	default: // one reason is enough
	}
}

func upstreamRoots(extra [][]byte) (*x509.CertPool, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's certificate authorities: %w", err)
	}
	for _, pem := range extra {
		roots.AppendCertsFromPEM(pem)
	}
	return roots, nil
}

func checkUpstreamCAs(files [][]byte) error {
	for _, pem := range files {
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return errors.New("--upstream-ca: the file holds no PEM certificate")
		}
	}
	return nil
}

// strictListener puts the strict reader before every HTTP/1 connection that
// passed the gate.
type strictListener struct{ worker *worker }

func (l strictListener) Accept() (net.Conn, error) {
	c, err := l.worker.gate.Accept()
	if err != nil {
		return nil, err
	}
	flow := gate.FlowOf(c)
	l.worker.metrics.connected(flow)
	if flow.Protocol == "h2" {
		return c, nil
	}
	return strict.NewConn(c, strict.Limits{Proxy: flow.Direct, Rejected: func(e *strict.Error) { l.worker.malformed(flow, e) }}), nil
}

func (l strictListener) Close() error   { return l.worker.gate.Close() }
func (l strictListener) Addr() net.Addr { return l.worker.gate.Addr() }
