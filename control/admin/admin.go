// Package admin serves the admin REST API, /v1, described by its own OpenAPI
// document. A request passes
//
//	record ─▶ route ─▶ token ─▶ team ─▶ role ─▶ handler ─▶ store
//	   └ request id, log, metrics              └ audit     └ problem+json
//
// Secrets only go in: no answer holds one, error messages included.
package admin

import (
	"cmp"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control/exchange"
	"sallyport/control/external"
	"sallyport/control/identity"
	"sallyport/control/login"
	"sallyport/control/places"
	"sallyport/control/registry"
	"sallyport/control/rekey"
	"sallyport/control/seal"
	"sallyport/control/store"
)

// Config is what a Server is made of.
type Config struct {
	Store      *store.Store
	Sealer     *seal.Sealer
	Authority  *identity.Authority
	Services   *registry.Registry
	Rekey      *rekey.Rotator
	Succession *identity.Succession
	Exchange   *exchange.Exchanger
	Secrets    *external.Secrets
	Metrics    *Metrics
	Log        *slog.Logger
	Explain    Explainer
	Test       Tester
	SidecarURL string // where sidecars reach the sidecar API, told to whoever makes a sandbox
	Version    string // of this build
	CodesTo    string // where the web console takes the codes of credentials' logins; empty: nowhere

	People          *login.Issuer // nil: nobody logs in
	SessionIdle     time.Duration // how long a session lasts unused; SessionIdle if zero
	SessionLifetime time.Duration // how long it lasts; SessionLifetime if zero

	Front         http.Handler  // what Serve serves: the web console around the API; nil: the API alone
	TokenLifetime time.Duration // at most, of a new API token; 0: any
	Calls         Pace          // with one token or session; usualPace if zero
	Strangers     Pace          // of one address, without a token that is good; strangerPace if zero
	Connections   int           // at once; half of them of one address; as many as descriptors allow if zero
}

// Server answers the admin API.
type Server struct {
	Config
	openAPI   []byte
	handler   http.Handler
	callers   *paced        // by the hash of a token that was good
	strangers *paced        // by address
	trials    *paced        // by credential
	trying    chan struct{} // holds one for each trial
	begun     *paced        // sessions, by the token
	following *crowd        // by who calls
	followed  *crowd        // by team
	outward   *crowd        // by team
	ready     readiness
}

// New makes a Server.
func New(c Config) (*Server, error) {
	if c.Calls == (Pace{}) {
		c.Calls = usualPace
	}
	if c.Strangers == (Pace{}) {
		c.Strangers = strangerPace
	}
	c.Connections = cmp.Or(c.Connections, places.Admins())
	c.SessionIdle = cmp.Or(c.SessionIdle, SessionIdle)
	c.SessionLifetime = cmp.Or(c.SessionLifetime, SessionLifetime)
	s := &Server{
		Config: c, callers: newPaced(c.Calls), strangers: newPaced(c.Strangers), begun: newPaced(sessionPace),
		trials: newPaced(trialPace), trying: make(chan struct{}, maxTrials),
		following: newCrowd(followersOfOne), followed: newCrowd(followersOfTeam), outward: newCrowd(outwardOfTeam),
	}
	mux := http.NewServeMux()
	api := s.newAPI(mux)
	s.routes(api)
	var err error
	if s.openAPI, err = document(api); err != nil {
		return nil, err
	}
	mux.HandleFunc("GET /openapi.json", s.serveOpenAPI)
	mux.HandleFunc("GET /healthz", serveHealth)
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.HandleFunc("/", unrouted(mux))
	s.handler = s.record(plainPaths(mux))
	return s, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

func (s *Server) routes(api huma.API) {
	s.infoRoutes(api)
	s.teamRoutes(api)
	s.vaultRoutes(api)
	s.credentialRoutes(api)
	s.dueRoutes(api)
	s.trialRoutes(api)
	s.overlapRoutes(api)
	s.sourceRoutes(api)
	s.agentRoutes(api)
	s.policyRoutes(api)
	s.explainRoutes(api)
	s.sandboxRoutes(api)
	s.approvalRoutes(api)
	s.auditRoutes(api)
	s.tokenRoutes(api)
	s.sessionRoutes(api)
	s.keyRoutes(api)
	s.caRoutes(api)
	s.quotaRoutes(api)
	s.discoveryRoutes(api)
}
