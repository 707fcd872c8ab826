// Package admin serves the admin REST API, /v1, described by its own OpenAPI
// document. A request passes
//
//	record ─▶ route ─▶ token ─▶ team ─▶ role ─▶ handler ─▶ store
//	   └ request id, log, metrics              └ audit     └ problem+json
//
// Secrets only go in: no answer holds one, error messages included.
package admin

import (
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control/exchange"
	"sallyport/control/identity"
	"sallyport/control/registry"
	"sallyport/control/seal"
	"sallyport/control/store"
)

// Config is what a Server is made of.
type Config struct {
	Store      *store.Store
	Sealer     *seal.Sealer
	Authority  *identity.Authority
	Services   *registry.Registry
	Exchange   *exchange.Exchanger
	Metrics    *Metrics
	Log        *slog.Logger
	SidecarURL string // where sidecars reach the sidecar API, told to whoever makes a sandbox
	Version    string // of this build
}

// Server answers the admin API.
type Server struct {
	Config
	openAPI []byte
	handler http.Handler
}

// New makes a Server.
func New(c Config) (*Server, error) {
	s := &Server{Config: c}
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
	mux.HandleFunc("/", s.serveNothing)
	s.handler = s.record(mux)
	return s, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

func (s *Server) routes(api huma.API) {
	s.infoRoutes(api)
	s.teamRoutes(api)
	s.vaultRoutes(api)
	s.credentialRoutes(api)
	s.agentRoutes(api)
	s.policyRoutes(api)
	s.sandboxRoutes(api)
	s.auditRoutes(api)
	s.tokenRoutes(api)
}
