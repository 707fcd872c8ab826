package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/external"
	"sallyport/control/store"
)

// Tester tries a credential at a target as a sidecar would use it. It calls begin
// when all is ready, and sends nothing if that fails.
type Tester func(ctx context.Context, bound store.Bound, at control.Target, begin func() error) (control.Trial, error)

// trialPace is of the trials of one credential: services lock out who fails too often.
var trialPace = Pace{0.2, 5}

// maxTrials bounds the trials that are under way at once.
const maxTrials = 16

// trialMethods are those that a trial may have: it sends no body.
var trialMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost}

// wantedTrial is what a credential is to be tried with. What is left out is chosen.
type wantedTrial struct {
	Method string `json:"method,omitempty" enum:"GET,HEAD,POST," doc:"Sent without a body; the check's of the credential's service, or GET"`
	Path   string `json:"path,omitempty" maxLength:"2048" doc:"Without a query; the check's of the credential's service, the first that its limits allow, or /"`
	Host   string `json:"host,omitempty" maxLength:"260" doc:"One of the credential's, as in api.example.com or api.example.com:8443; else its first that is no wildcard"`
}

func (s *Server) trialRoutes(api huma.API) {
	routeBody(s, api, huma.Operation{
		OperationID: "test-credential", Method: http.MethodPost, Path: "/v1/teams/{team}/vaults/{vault}/credentials/{credential}/test", DefaultStatus: http.StatusOK,
		Summary: "Send one request with the credential from here, and say which status the service answered with",
	}, s.testCredential)
}

func (s *Server) testCredential(ctx context.Context, in *CredentialPath, body *wantedTrial) (*answer[control.Trial], error) {
	team := teamOf(ctx).ID
	bound, err := s.Store.Current(ctx, team, in.Vault, in.Credential)
	if err != nil {
		return nil, err
	}
	c := bound.Credential
	if c.Captured != nil {
		return nil, control.Errorf(control.CodeConflict, "the credential %s/%s was captured by a sandbox and serves that alone: nobody else tries it", c.Vault, c.Name)
	}
	if s.Test == nil {
		return nil, control.Errorf(control.CodeUnavailable, "this control plane was started without what tries credentials")
	}
	if _, err := s.trialTarget(c, body); err != nil {
		return nil, err
	}
	leave, err := s.enterOutward(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if l := s.trials.of(c.ID); !l.Allow() {
		return nil, tooMany(l, "the credential %s/%s was tried too often: services lock out who fails again and again", c.Vault, c.Name)
	}
	select {
	case s.trying <- struct{}{}:
		defer func() { <-s.trying }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	trial, err := s.try(ctx, bound, body)
	if errors.Is(err, external.ErrChanged) { // nothing was sent, and the next version is there
		if bound, err = s.Store.Current(ctx, team, in.Vault, in.Credential); err != nil {
			return nil, err
		}
		trial, err = s.try(ctx, bound, body)
	}
	return one(trial, err)
}

// try has one trial, with an event before and one after.
func (s *Server) try(ctx context.Context, bound store.Bound, wanted *wantedTrial) (control.Trial, error) {
	team, c := teamOf(ctx).ID, bound.Credential
	at, err := s.trialTarget(c, wanted)
	if err != nil {
		return control.Trial{}, err
	}
	event := act(ctx, "credential.test", "")
	event.Host, event.Port, event.Method, event.Path = at.Host, int(at.Port), at.Method, at.Path
	event.Credential, event.Version, event.Reason = c.Vault+"/"+c.Name, c.Version, "intent"
	trial, err := s.Test(ctx, bound, at, func() error { return s.Store.BeginTrial(ctx, team, c, event) })
	if err != nil {
		return trial, err
	}
	event.Reason, event.Status, event.DurationUS = string(trial.Outcome), trial.Status, trial.Milliseconds*1000
	return trial, s.Store.EndTrial(ctx, team, event)
}

// trialTarget is where a credential is tried: at one of its own hosts, with TLS.
func (s *Server) trialTarget(c control.Credential, wanted *wantedTrial) (control.Target, error) {
	at := control.Target{TLS: true, Method: http.MethodGet, Path: "/"}
	if check := s.check(c); check != "" {
		at.Method, at.Path, _ = strings.Cut(check, " ")
	} else if len(c.Limits.Paths) > 0 {
		at.Path = c.Limits.Paths[0]
	}
	if wanted.Path != "" {
		at.Method, at.Path = http.MethodGet, wanted.Path
	}
	if wanted.Method != "" {
		at.Method = wanted.Method
	}
	if !slices.Contains(trialMethods, at.Method) {
		return at, control.Errorf(control.CodeInvalid, "a credential is tried with one of %s", strings.Join(trialMethods, ", "))
	}
	if _, err := api.PathSegments(at.Path); err != nil {
		return at, control.Errorf(control.CodeInvalid, "the path: %v", err)
	}
	var err error
	at.Host, at.Port, err = trialHost(c, wanted.Host)
	return at, err
}

// check is the request by which the maker of the credential's service says who one is.
func (s *Server) check(c control.Credential) string {
	service, known := s.Services.Service(c.Service)
	if !known || len(c.Hosts) == 0 || c.Hosts[0] != service.Hosts[0] {
		return ""
	}
	return service.Check
}

func trialHost(c control.Credential, wanted string) (host string, port uint16, err error) {
	for _, text := range c.Hosts {
		p, err := api.ParseHostPattern(text)
		if err == nil && wanted == "" && !p.Wildcard() {
			return p.Name(), p.Port(), nil
		}
	}
	if wanted == "" {
		return "", 0, control.Errorf(control.CodeInvalid, "the credential %s/%s has hosts of one pattern only, %s: say which host", c.Vault, c.Name, strings.Join(c.Hosts, ", "))
	}
	exact, err := api.ParseHostPattern(wanted)
	if err != nil || exact.Wildcard() {
		return "", 0, control.Errorf(control.CodeInvalid, "the host is none as api.example.com or api.example.com:8443")
	}
	for _, text := range c.Hosts {
		if p, err := api.ParseHostPattern(text); err == nil && p.Match(exact.Name(), exact.Port()) {
			return exact.Name(), exact.Port(), nil
		}
	}
	return "", 0, control.Errorf(control.CodeInvalid, "the credential %s/%s is not for that host, but for %s", c.Vault, c.Name, strings.Join(c.Hosts, ", "))
}
