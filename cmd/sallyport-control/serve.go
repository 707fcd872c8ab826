package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/control"
	"sallyport/control/admin"
	"sallyport/control/agentapi"
	"sallyport/control/datadir"
	"sallyport/control/embedded"
	"sallyport/control/exchange"
	"sallyport/control/external"
	"sallyport/control/forward"
	"sallyport/control/identity"
	"sallyport/control/logqueue"
	"sallyport/control/places"
	"sallyport/control/registry"
	"sallyport/control/rekey"
	"sallyport/control/seal"
	"sallyport/control/seal/kek"
	"sallyport/control/store"
)

// stopTimeout bounds the end of the embedded database.
const stopTimeout = 30 * time.Second

type serveCmd struct {
	DataDir        string   `placeholder:"DIR" default:"${data_dir}" type:"path" help:"Where the embedded database, the key, the admin token and ca.pem are (${default})."`
	Database       *string  `placeholder:"URL" env:"SALLYPORT_DATABASE" help:"Postgres, as postgres://USER@HOST/NAME. Without it a private Postgres runs in the data directory."`
	KEK            string   `name:"kek" placeholder:"KEY" env:"SALLYPORT_KEK" help:"The key-encryption key: file:PATH, made at the first start (DIR/kek), awskms:ARN, gcpkms:projects/…, vault:https://HOST/MOUNT/keys/NAME."`
	KEKOther       []string `name:"kek-other" placeholder:"KEY" env:"SALLYPORT_KEK_OTHER" help:"Another that opens what is in the database, while \"sallyport key rotate\" moves it from one to the other; may be repeated."`
	AdminListen    string   `placeholder:"ADDR" default:"127.0.0.1:8200" help:"Admin API: plain HTTP on loopback, TLS elsewhere (${default})."`
	AdminCert      string   `placeholder:"FILE" type:"path" help:"PEM certificate of the admin API. Without one it has one of the control CA, ca.pem."`
	AdminKey       string   `placeholder:"FILE" type:"path" help:"PEM key of --admin-cert."`
	SidecarListen  string   `placeholder:"ADDR" default:"127.0.0.1:8201" help:"Sidecar API, always mutual TLS (${default})."`
	SidecarURL     string   `name:"sidecar-url" placeholder:"URL" help:"Where sidecars find it, if not at the address it listens on: https://HOST:PORT, or those of all replicas with commas."`
	MetricsListen  string   `placeholder:"ADDR" default:"127.0.0.1:9200" help:"Prometheus metrics, plain HTTP (${default})."`
	consoleFlags   `embed:""`
	peopleFlags    `embed:""`
	AuditRetention retention `placeholder:"DURATION" help:"Remove audit events this long after they were recorded, by whole months, such as 90d or 8760h; at least 30d. Without it they are kept for ever."`
	AuditForward   []target  `sep:"none" placeholder:"URL" help:"Send audit events there as they are recorded: syslog+tls://HOST:6514?ca=FILE, syslog+tcp://…, otlp+https://HOST:4318?headers=FILE, otlp+http://…; may be repeated."`
	exchangeFlags  `embed:""`
	LogLevel       string `enum:"debug,info,warn,error" default:"info" help:"debug, info, warn or error (${default})."`
}

// Run serves until ctx ends. What it opens it closes, in the reverse order.
func (cmd *serveCmd) Run(ctx context.Context, env *environment) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cmd.LogLevel)); err != nil {
		return err
	}
	surviveBrokenPipes()
	logs := logqueue.New(env.stderr)
	defer logs.Close()
	log := slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: level}))
	if err := harden(); err != nil {
		return err
	}
	if cmd.Database != nil && *cmd.Database == "" {
		// A variable that was not set, most likely: a new database would not be what was meant.
		return errors.New("--database or SALLYPORT_DATABASE is given, and empty: give a URL, or leave it out for a private Postgres")
	}
	dir, err := openDataDir(cmd.DataDir)
	if err != nil {
		return err
	}
	defer dir.close()
	if err := dir.checkMode(); err != nil {
		log.Warn("the data directory is open to other users", "error", err)
	}
	if cmd.KEK == "" {
		cmd.KEK = dir.file(kekFile)
	}
	if err := cmd.remember(env, dir); err != nil {
		log.Warn("sallyport run on this machine will not hide the data directory from agents that run as this user", "error", err)
	}
	reach, err := cmd.exchangeFlags.reach()
	if err != nil {
		return err
	}
	targets, err := targets(cmd.AuditForward)
	if err != nil {
		return err
	}
	listening, err := cmd.listen()
	if err != nil {
		return err
	}
	defer listening.close()
	url, stopDatabase, err := cmd.database(ctx, dir, log)
	if err != nil {
		return err
	}
	defer stopDatabase()
	return cmd.serveFrom(ctx, env, log, dir, listening, url, &parts{reach: reach, targets: targets})
}

// serveFrom opens what is in the database, and serves it until ctx ends.
func (cmd *serveCmd) serveFrom(ctx context.Context, env *environment, log *slog.Logger, dir *dataDir, l *listeners, url string, p *parts) error {
	st, err := store.Open(ctx, url, log)
	if err != nil && cmd.Database != nil && control.CodeOf(err) == control.CodeUnavailable {
		return withHint(err, "is it running, and is the URL of --database or SALLYPORT_DATABASE right? Without either a private Postgres is started")
	}
	if err != nil {
		return err
	}
	defer st.Close()
	ring, closeRing, err := kek.Ring(ctx, st, cmd.KEK, cmd.KEKOther...)
	if err != nil {
		return err
	}
	defer closeRing()
	sealer := seal.New(ring)
	defer sealer.Close()
	authority, err := identity.Load(ctx, st, ring, time.Now)
	if err != nil {
		return err
	}
	if err := dir.write(caFile, authority.PEM()); err != nil {
		return err
	}
	if err := bootstrap(ctx, st, dir); err != nil {
		return fmt.Errorf("first start: %w", err)
	}
	p.store, p.sealer, p.authority = st, sealer, authority
	p.rekey, p.succession = rekey.New(st, sealer, ring, log), identity.NewSuccession(authority, st, ring, log)
	return cmd.serve(ctx, env, log, dir, l, p)
}

// remember has sallyport run hide the data directory, and the keys that are files.
func (cmd *serveCmd) remember(env *environment, dir *dataDir) error {
	private := []string{dir.path}
	for _, name := range append([]string{cmd.KEK}, cmd.KEKOther...) {
		if path := kek.Path(name); path != "" {
			private = append(private, path)
		}
	}
	return datadir.Remember(env.getenv, private...)
}

// parts are what both APIs stand on.
type parts struct {
	store      *store.Store
	sealer     *seal.Sealer
	authority  *identity.Authority
	rekey      *rekey.Rotator
	succession *identity.Succession
	reach      exchange.Reach
	targets    []forward.Target
}

// database gives the URL of the database, and what ends it if it is ours.
func (cmd *serveCmd) database(ctx context.Context, dir *dataDir, log *slog.Logger) (url string, stop func(), err error) {
	if cmd.Database != nil {
		return *cmd.Database, func() {}, nil
	}
	cluster, err := embedded.Start(ctx, dir.path, log)
	if errors.Is(err, embedded.ErrNotInstalled) {
		return "", nil, withHint(err, "install Postgres (Debian: apt-get install postgresql), or give the URL of one with --database")
	}
	if err != nil {
		return "", nil, fmt.Errorf("start the embedded Postgres: %w", err)
	}
	return cluster.URL(), func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if err := cluster.Stop(ctx); err != nil {
			log.Error("the embedded Postgres did not stop; the next start goes on with it", "error", err)
		}
	}, nil
}

func (cmd *serveCmd) serve(ctx context.Context, env *environment, log *slog.Logger, dir *dataDir, l *listeners, p *parts) error {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = ""
	}
	sidecarURL, err := cmd.sidecarURL(l.sidecar)
	if err != nil {
		return err
	}
	services, err := registry.Load()
	if err != nil {
		return err
	}
	counted := newMetrics(version())
	exchanger := exchange.New(exchange.NewClient(p.reach), log)
	defer exchanger.Close()
	secrets := external.New(p.store, p.sealer, exchanger, exchange.NewClient(p.reach), log)
	defer secrets.Close()
	sidecars := agentapi.New(agentapi.Config{
		Store: p.store, Sealer: p.sealer, Authority: p.authority, Services: services, Exchange: exchanger, Secrets: secrets,
		Metrics: counted.agentapi, Log: log, Names: names(l.sidecar, sidecarURL, hostname),
	})
	admins, err := cmd.admins(l, admin.Config{
		Store: p.store, Sealer: p.sealer, Authority: p.authority, Services: services, Exchange: exchanger, Secrets: secrets,
		Rekey: p.rekey, Succession: p.succession, Metrics: counted.admin, Log: log, Explain: explainer(sidecars), Test: tester(sidecars, p.reach), SidecarURL: sidecarURL, Version: version(),
	})
	if err != nil {
		return err
	}
	adminTLS, err := cmd.adminTLS(l.admin, func() (certificateFunc, error) {
		own, err := p.authority.NewAdminServer(names(l.admin, "", hostname))
		if err != nil {
			return nil, err
		}
		return own.GetCertificate, nil
	})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return admins.Serve(ctx, l.admin, adminTLS) })
	group.Go(func() error { return sidecars.Serve(ctx, l.sidecar) })
	group.Go(func() error { return retain(ctx, p.store, cmd.AuditRetention, receivers(p.targets), log) })
	group.Go(func() error {
		from := forward.Sender{Hostname: hostname, Version: version()}
		return (&forward.Forwarder{Store: p.store, Targets: p.targets, Sender: from, Metrics: counted.forward, Log: log}).Run(ctx)
	})
	group.Go(func() error { return remind(ctx, p.store, counted, log) })
	group.Go(func() error { return p.rekey.Run(ctx) })
	group.Go(func() error { return p.succession.Run(ctx) })
	group.Go(func() error { return serveMetrics(ctx, l.metrics, counted.handler(), log) })
	cmd.announce(env.stdout, dir, l, sidecarURL, knownToken(ctx, p.store, dir), adminTLS != nil)
	notifyReady(env.getenv, log)
	return group.Wait()
}

// admins makes the admin API of what serves beside it, with people's logins and the console.
func (cmd *serveCmd) admins(l *listeners, config admin.Config) (*admin.Server, error) {
	consoleURL, err := cmd.consoleURL(l.admin, cmd.AdminCert != "")
	if err != nil {
		return nil, err
	}
	if config.CodesTo, err = codesTo(consoleURL); err != nil {
		return nil, err
	}
	if config.People, err = cmd.issuer(consoleURL, config.Log); err != nil {
		return nil, err
	}
	config.SessionIdle, config.SessionLifetime, config.TokenLifetime = cmd.SessionIdle, cmd.SessionLifetime, cmd.TokenMaxLifetime
	admins, err := admin.New(config)
	if err != nil {
		return nil, err
	}
	return admins, cmd.around(admins, consoleURL)
}

// announce says where everything is. It never shows what is in the files.
func (cmd *serveCmd) announce(w io.Writer, dir *dataDir, l *listeners, sidecarURL, adminToken string, adminTLS bool) {
	scheme := "http"
	if adminTLS {
		scheme = "https"
	}
	fmt.Fprintf(w, "sallyport-control %s is ready\n", version())
	fmt.Fprintf(w, "  admin API    %s://%s\n", scheme, l.admin.Addr())
	if cmd.Console {
		fmt.Fprintf(w, "  web console  %s://%s/console/\n", scheme, l.admin.Addr())
	}
	fmt.Fprintf(w, "  sidecar API  %s\n", sidecarURL)
	fmt.Fprintf(w, "  metrics      http://%s/metrics\n", l.metrics.Addr())
	if adminToken != "" {
		fmt.Fprintf(w, "  admin token  %s\n", adminToken)
	}
	fmt.Fprintf(w, "  control CA   %s\n", dir.file(caFile))
	keep := "without it no secret can be opened"
	if path := kek.Path(cmd.KEK); path != "" {
		keep = "keep a copy elsewhere: " + keep
	}
	fmt.Fprintf(w, "  key          %s (%s)\n", cmd.KEK, keep)
	if adminToken != "" && !adminTLS {
		fmt.Fprintf(w, "log in with: sallyport login --server http://%s --token-file %s\n", l.admin.Addr(), adminToken)
	}
}

func serveMetrics(ctx context.Context, listener net.Listener, handler http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(places.Bound(listener, places.Metrics)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
