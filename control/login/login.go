// Package login finds out who a person is and what they may do, by an OpenID Connect
// issuer: the control plane is its client, and no token of the issuer leaves it. A
// person's roles are those of their groups at that moment.
package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"

	"sallyport/control"
)

// issuerTimeout bounds each question to the issuer.
const issuerTimeout = 15 * time.Second

// Config says which issuer is asked, as which client, and what its groups may do.
type Config struct {
	Issuer       string // https, or http on this machine
	ClientID     string
	ClientSecret control.Secret // empty: a public client
	Domains      []string       // of email addresses; empty: any
	GroupsClaim  string         // "groups", mostly
	Redirect     string         // where a browser comes back to in the web console; empty: there is none
	Mappings     []Mapping
}

// Issuer is an OpenID Connect provider. It is asked for its configuration at the first
// login, so that the control plane starts without it.
type Issuer struct {
	Config
	http *http.Client
	log  *slog.Logger

	asking   singleflight.Group
	provider atomic.Pointer[oidc.Provider]
}

// New checks the configuration.
func New(c Config, log *slog.Logger) (*Issuer, error) {
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("the OIDC issuer must be a URL without user, query or fragment: https://HOST/PATH")
	case u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())):
		return nil, errors.New("the OIDC issuer must be https: whoever stands between could log in as anybody")
	case c.ClientID == "":
		return nil, errors.New("the OIDC issuer needs a client id")
	case c.GroupsClaim == "":
		return nil, errors.New("the OIDC groups claim has no name")
	case len(c.Mappings) == 0:
		return nil, errors.New("no OIDC group has a role, so nobody could log in: map one")
	}
	return &Issuer{Config: c, log: log, http: &http.Client{Timeout: issuerTimeout}}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// context is one in which go-oidc and oauth2 use our client.
func (i *Issuer) context(ctx context.Context) context.Context { return oidc.ClientContext(ctx, i.http) }

// discover gives the issuer's configuration, which it is asked for until it tells it, by
// one for all who want to log in: that takes no token.
func (i *Issuer) discover(ctx context.Context) (*oidc.Provider, error) {
	if p := i.provider.Load(); p != nil {
		return p, nil
	}
	answer := i.asking.DoChan("", func() (any, error) {
		// Its keys are fetched later, in the context given here.
		p, err := oidc.NewProvider(i.context(context.WithoutCancel(ctx)), i.Issuer)
		if err != nil {
			return nil, i.away(err)
		}
		i.provider.Store(p)
		return p, nil
	})
	select {
	case a := <-answer:
		if a.Err != nil {
			return nil, a.Err
		}
		return a.Val.(*oidc.Provider), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (i *Issuer) away(err error) error {
	i.log.Warn("the OIDC issuer does not answer as it should", "issuer", i.Issuer, "error", err)
	return control.Errorf(control.CodeUnavailable, "the OIDC issuer %s does not answer as it should: try again, or see the log of the control plane", i.Issuer)
}

// Method is how a person can log in.
type Method struct {
	Issuer        string   `json:"issuer"`
	ClientID      string   `json:"client_id"`
	Authorization string   `json:"authorization_endpoint"`
	Scopes        []string `json:"scopes"`
	Device        bool     `json:"device" doc:"Whether a code can be entered elsewhere (RFC 8628)"`
	Redirect      string   `json:"redirect_uri,omitempty" doc:"Where a browser comes back to in the web console"`
}

// Method tells how a person logs in.
func (i *Issuer) Method(ctx context.Context) (Method, error) {
	p, err := i.discover(ctx)
	if err != nil {
		return Method{}, err
	}
	return Method{
		Issuer: i.Issuer, ClientID: i.ClientID, Authorization: p.Endpoint().AuthURL,
		Scopes: i.scopes(p), Device: p.Endpoint().DeviceAuthURL != "", Redirect: i.Redirect,
	}, nil
}

// scopes are those to ask for; "groups" only where the issuer knows it, since some
// refuse what they don't know.
func (i *Issuer) scopes(p *oidc.Provider) []string {
	scopes := []string{oidc.ScopeOpenID, "email", "profile"}
	var known struct {
		Scopes []string `json:"scopes_supported"`
	}
	if p.Claims(&known) == nil && slices.Contains(known.Scopes, "groups") {
		scopes = append(scopes, "groups")
	}
	return scopes
}

func (i *Issuer) client(p *oidc.Provider, redirect string) *oauth2.Config {
	endpoint := p.Endpoint()
	endpoint.AuthStyle = i.style(p)
	return &oauth2.Config{
		ClientID: i.ClientID, ClientSecret: string(i.ClientSecret), Endpoint: endpoint, RedirectURL: redirect, Scopes: i.scopes(p),
	}
}

// style is how the client proves who it is. If oauth2 were left to find it out, it would
// ask again after each refusal, such as that nobody has confirmed a device code yet.
func (i *Issuer) style(p *oidc.Provider) oauth2.AuthStyle {
	var known struct {
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	if len(i.ClientSecret) == 0 || p.Claims(&known) == nil && len(known.Methods) > 0 && !slices.Contains(known.Methods, "client_secret_basic") {
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleInHeader // the usual (OpenID Connect Discovery 1.0 section 3)
}

// Code ends a login by authorization code (RFC 7636, RFC 8252). It came back to a program
// on the person's machine, or to the web console.
func (i *Issuer) Code(ctx context.Context, code, verifier, redirect string) (control.Person, error) {
	if redirect == "" || redirect != i.Redirect {
		if err := checkRedirect(redirect); err != nil {
			return control.Person{}, err
		}
	}
	if len(verifier) < 43 || len(verifier) > 128 {
		return control.Person{}, control.Errorf(control.CodeInvalid, "a code verifier has 43 to 128 characters")
	}
	p, err := i.discover(ctx)
	if err != nil {
		return control.Person{}, err
	}
	tokens, err := i.client(p, redirect).Exchange(i.context(ctx), code, oauth2.VerifierOption(verifier))
	if err != nil {
		return control.Person{}, i.refused(err)
	}
	return i.person(ctx, p, tokens, control.LoginNonce(verifier))
}

// checkRedirect lets a code come back to the machine where the login began alone.
func checkRedirect(redirect string) error {
	u, err := url.Parse(redirect)
	if err != nil || u.Scheme != "http" || u.Hostname() != "127.0.0.1" && u.Hostname() != "::1" ||
		u.Port() == "" || u.Path != "/callback" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return control.Errorf(control.CodeInvalid, "the redirect must be http://127.0.0.1:PORT/callback or http://[::1]:PORT/callback")
	}
	return nil
}

// Device is a login that somebody confirms elsewhere.
type Device struct {
	Code      string    `json:"device_code" doc:"For POST /v1/sessions"`
	UserCode  string    `json:"user_code"`
	URI       string    `json:"verification_uri"`
	Complete  string    `json:"verification_uri_complete,omitempty"`
	Interval  int64     `json:"interval" doc:"Seconds between two tries"`
	ExpiresAt time.Time `json:"expires_at"`
}

// StartDevice begins a login by device code (RFC 8628).
func (i *Issuer) StartDevice(ctx context.Context) (Device, error) {
	p, err := i.discover(ctx)
	if err != nil {
		return Device{}, err
	}
	if p.Endpoint().DeviceAuthURL == "" {
		return Device{}, control.Errorf(control.CodeNotFound, "the OIDC issuer has no login by device code: use a browser on this machine")
	}
	var options []oauth2.AuthCodeOption
	if len(i.ClientSecret) > 0 { // oauth2 sends none there, and issuers ask for it (RFC 8628 section 3.1)
		options = append(options, oauth2.SetAuthURLParam("client_secret", string(i.ClientSecret)))
	}
	d, err := i.client(p, "").DeviceAuth(i.context(ctx), options...)
	if err != nil {
		return Device{}, i.refused(err)
	}
	return Device{d.DeviceCode, d.UserCode, d.VerificationURI, d.VerificationURIComplete, cmp.Or(d.Interval, PollSeconds), d.Expiry.UTC()}, nil
}

// PollSeconds is how long to wait between two tries to end a login by device code where
// the issuer does not say, and how much longer once it was too often (RFC 8628 section 3.5).
const PollSeconds = 5

// ErrSlowDown is that of a login that was asked for too often; ask less often from then on.
var ErrSlowDown = control.Errorf(control.CodeUnavailable, "the OIDC issuer wants to be asked less often")

// ErrPending is that of a login that nobody has confirmed yet.
var ErrPending = control.Errorf(control.CodeUnavailable, "nobody has confirmed the login yet")

// FromDevice ends a login by device code, or is ErrPending.
func (i *Issuer) FromDevice(ctx context.Context, code string) (control.Person, error) {
	p, err := i.discover(ctx)
	if err != nil {
		return control.Person{}, err
	}
	tokens, err := i.client(p, "").Exchange(i.context(ctx), "",
		oauth2.SetAuthURLParam("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), oauth2.SetAuthURLParam("device_code", code))
	if err != nil {
		return control.Person{}, i.refused(err)
	}
	// There is no nonce in RFC 8628; the device code is known to nobody else.
	return i.person(ctx, p, tokens, "")
}

// refused is the error of a token endpoint. It quotes only what RFC 6749 names.
func (i *Issuer) refused(err error) error {
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) {
		return i.away(err)
	}
	switch answer.ErrorCode {
	case "authorization_pending":
		return ErrPending
	case "slow_down":
		return ErrSlowDown
	case "expired_token":
		return control.Errorf(control.CodeUnauthorized, "the login took too long: begin again")
	case "access_denied":
		return control.Errorf(control.CodeUnauthorized, "the login was refused where it was to be confirmed")
	case "invalid_grant":
		return control.Errorf(control.CodeUnauthorized, "the OIDC issuer does not know the code, or it was used before: begin again")
	}
	i.log.Warn("the OIDC issuer refuses", "issuer", i.Issuer, "status", answer.Response.StatusCode, "error", answer.ErrorCode)
	return control.Errorf(control.CodeUnauthorized, "the OIDC issuer refuses the login (%s): see its log and that of the control plane", printable(answer.ErrorCode))
}

func printable(s string) string { return fmt.Sprintf("%.40q", s) }
