// Package agentapi serves the sidecar API: Connect over mutual TLS. A sandbox is
// known by its verified certificate and by nothing that it says.
//
//	store.Listen ──▶ hub ──▶ Watch streams, one a sandbox ──▶ sidecars
//	                          newest snapshot only            │ acknowledge
//	store ◀───────────────────────────────────────────────────┘
package agentapi

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/types/known/durationpb"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/exchange"
	"sallyport/control/external"
	"sallyport/control/identity"
	"sallyport/control/places"
	"sallyport/control/registry"
	"sallyport/control/seal"
	"sallyport/control/store"
)

const (
	// maxMessage bounds a message of a sidecar, in bytes, and maxReport a batch of
	// audit events.
	maxMessage = 64 << 10
	maxReport  = 4 << 20
	// maxCapture is what the secrets of one answer take, and the rest.
	maxCapture = control.MaxMintPlaces*control.MaxSecretLength + 16<<10
	// drainTimeout bounds the wait for calls under way when serving ends.
	drainTimeout = 10 * time.Second
	// outageGrace is how long bindings may serve while nobody of the control
	// plane can be reached: as long as the material that they lead to.
	outageGrace = hardFor
)

// Config is what a Server is made of.
type Config struct {
	Store     *store.Store
	Sealer    *seal.Sealer
	Authority *identity.Authority
	Services  *registry.Registry
	Exchange  *exchange.Exchanger
	Secrets   *external.Secrets
	Metrics   *Metrics
	Log       *slog.Logger
	Names     []string // DNS names and addresses of the listener, for its certificate
	// Connections bounds those of sidecars at once; 0 means as many as the
	// process may have, but for a reserve.
	Connections int
}

// Server serves the sidecar API.
type Server struct {
	Config
	api.UnimplementedSidecarServiceHandler
	hub          *hub
	fleets       *fleets
	openings     *semaphore.Weighted // of streams, until they have their first snapshot
	opened       *group[store.Opening, store.Opened]
	firsts       *group[string, pushed]
	standings    *group[store.Use, store.Standing]
	granted      *group[store.Grant, store.Granted]
	acknowledged *group[store.Applied, bool]
	kept         *group[store.Held, bool]
	closed       *group[store.Held, struct{}]
	waiting      *waiting
	limits       *limits
	replica      string // names this process among those that share the database
	destinations []*api.Destination
	grace        *durationpb.Duration
	receivers    sync.WaitGroup
}

// New makes a Server.
func New(c Config) *Server {
	if c.Connections <= 0 {
		c.Connections = places.Sidecars()
	}
	s := &Server{
		Config: c, hub: newHub(), waiting: newWaiting(), limits: newLimits(), replica: store.NewID(),
		destinations: destinations(c.Services), grace: durationpb.New(outageGrace),
	}
	s.openings = semaphore.NewWeighted(mostOpenings)
	s.fleets = newFleets(c.Store, s.replica)
	// Streams of many teams are opened a few at a time, so that they keep no other call
	// from the database.
	turns := semaphore.NewWeighted(openingTurns)
	s.opened = newGroup(inTurn(turns, func(ctx context.Context, team string, openings []store.Opening) ([]store.Opened, error) {
		return c.Store.OpenStreams(ctx, team, openings, s.replica)
	}))
	s.firsts = newGroup(inTurn(turns, s.firstSnapshots))
	s.standings, s.granted = newGroup(c.Store.Standings), newGroup(c.Store.Grants)
	s.acknowledged, s.kept = newGroup(c.Store.Acknowledge), newGroup(c.Store.KeepStreams)
	s.closed = newGroup(func(ctx context.Context, team string, held []store.Held) ([]struct{}, error) {
		return make([]struct{}, len(held)), c.Store.CloseStreams(ctx, team, held)
	})
	c.Metrics.watch(s.hub, c.Store.Degraded)
	return s
}

// Serve answers sidecars on listener until ctx ends; then it tells the streams
// to go elsewhere, waits a little for the calls under way, and returns nil.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	certificate, err := s.Authority.NewServer(s.Names)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           s.handler(),
		TLSConfig:         s.tlsConfig(certificate),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ConnContext:       withConnection,
		HTTP2: &http.HTTP2Config{
			// A sidecar that vanished without a word is noticed within a minute.
			SendPingTimeout:  30 * time.Second,
			PingTimeout:      15 * time.Second,
			WriteByteTimeout: 30 * time.Second,
		},
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	bounded := connections{places.Bound(listener, s.Connections)}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.Store.Listen(ctx, s.hub.notify, s.waiting.wake) })
	group.Go(func() error {
		<-ctx.Done()
		s.hub.close()
		s.waiting.close()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if server.Shutdown(drain) != nil {
			server.Close()
		}
		s.receivers.Wait()
		return nil
	})
	group.Go(func() error {
		if err := server.ServeTLS(bounded, "", ""); err != http.ErrServerClosed {
			return err
		}
		return nil
	})
	return group.Wait()
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	path, handler := api.NewSidecarServiceHandler(s,
		connect.WithConditionalHandlerOptions(func(spec connect.Spec) []connect.HandlerOption {
			switch spec.Procedure {
			case api.SidecarServiceReportProcedure:
				return []connect.HandlerOption{connect.WithReadMaxBytes(maxReport)}
			case api.SidecarServiceCaptureProcedure:
				return []connect.HandlerOption{connect.WithReadMaxBytes(maxCapture)}
			}
			return []connect.HandlerOption{connect.WithReadMaxBytes(maxMessage)}
		}),
		connect.WithInterceptors(&border{server: s}),
		// What is said is short, and said to many: to compress it costs more than to send it.
		connect.WithCompression("gzip", nil, nil),
	)
	mux.Handle(path, withCalls(withDeadline(withCertificate(s.withLimits(handler)))))
	return mux
}

func (s *Server) tlsConfig(certificate *identity.Server) *tls.Config {
	config := &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: certificate.GetCertificate,
		ClientAuth:     tls.RequireAnyClientCert,
		// Sidecars resume no sessions: they come back when the keys of tickets are gone.
		SessionTicketsDisabled: true,
	}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		own := config.Clone()
		// Not VerifyPeerCertificate, which resumed connections skip.
		own.VerifyConnection = func(state tls.ConnectionState) error {
			c, ok := hello.Conn.(*connection)
			newcomer, err := s.verifyConnection(state, c)
			if ok && newcomer {
				time.AfterFunc(newcomerFor, c.end)
			}
			return err
		}
		return own, nil
	}
	return config
}
