package exchange_test

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"sallyport/control"
	"sallyport/control/exchange"
)

// document is what a server says at a path.
type document = map[string]any

// site is an MCP server and its authorization server, which say what a test has them say.
type site struct {
	*httptest.Server
	mu      sync.Mutex
	says    map[string]any // by path; an http.HandlerFunc answers itself
	arrived []string       // METHOD PATH
	sent    document       // to be registered
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	s.says = map[string]any{
		"/mcp": s.challenge(`Bearer resource_metadata="` + s.URL + `/.well-known/oauth-protected-resource/mcp", scope="tools"`),
		"/.well-known/oauth-protected-resource/mcp": document{
			"resource": s.URL + "/mcp", "authorization_servers": []string{s.URL + "/as"}, "scopes_supported": []string{"tools", "files"},
		},
		"/.well-known/oauth-authorization-server/as": s.server(),
		"/register": document{"client_id": "registered"},
	}
	return s
}

// server is what the authorization server says of itself.
func (s *site) server() document {
	return document{
		"issuer": s.URL + "/as", "authorization_endpoint": s.URL + "/authorize", "token_endpoint": s.URL + "/token", "registration_endpoint": s.URL + "/register",
		"code_challenge_methods_supported": []string{"S256"}, "token_endpoint_auth_methods_supported": []string{"client_secret_post", "none"},
		"response_types_supported": []string{"code"}, "authorization_response_iss_parameter_supported": true,
	}
}

func (s *site) challenge(header string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", header)
		w.WriteHeader(http.StatusUnauthorized)
	}
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.arrived = append(s.arrived, r.Method+" "+r.URL.Path)
	said := s.says[r.URL.Path]
	if r.Method == http.MethodPost {
		json.NewDecoder(r.Body).Decode(&s.sent)
	}
	s.mu.Unlock()
	switch said := said.(type) {
	case http.HandlerFunc:
		said(w, r)
	case document:
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		json.NewEncoder(w).Encode(said)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// discover asks for the site's MCP server.
func (s *site) discover(t *testing.T, with func(*exchange.Discovery)) (exchange.Discovered, error) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	x := exchange.New(exchange.NewClient(exchange.Reach{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Roots: roots}), log)
	defer x.Close()
	d := exchange.Discovery{Resource: s.URL + "/mcp", RedirectURI: "http://127.0.0.1:4711/callback"}
	if with != nil {
		with(&d)
	}
	found, err := x.Discover(t.Context(), d)
	if err == nil {
		c := control.Credential{Auth: control.AuthOAuthRefresh, Settings: found.Settings}
		err = errors.Join(x.Check(c), x.CheckSecret(c, found.Secret))
	}
	return found, err
}

func TestDiscover(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(s *site)
		with   func(s *site, d *exchange.Discovery)
		want   func(s *site, w control.Settings) // what differs
		secret string
	}{
		"as it should be": {},
		"no challenge":    {change: func(s *site) { delete(s.says, "/mcp") }, want: func(_ *site, w control.Settings) { w["scope"] = "tools files" }},
		"metadata of the whole host": {
			change: func(s *site) {
				delete(s.says, "/mcp")
				delete(s.says, "/.well-known/oauth-protected-resource/mcp")
				s.says["/.well-known/oauth-protected-resource"] = document{"resource": s.URL + "/", "authorization_servers": []string{s.URL + "/as"}}
			},
			want: func(s *site, w control.Settings) { w["resource"] = s.URL + "/"; delete(w, "scope") },
		},
		"OpenID Connect, path inserted": {change: func(s *site) {
			s.says["/.well-known/openid-configuration/as"] = s.server()
			delete(s.says, "/.well-known/oauth-authorization-server/as")
		}},
		"OpenID Connect, path before": {change: func(s *site) {
			s.says["/as/.well-known/openid-configuration"] = s.server()
			delete(s.says, "/.well-known/oauth-authorization-server/as")
		}},
		"an issuer without a path": {
			change: func(s *site) {
				s.says["/.well-known/oauth-protected-resource/mcp"].(document)["authorization_servers"] = []string{s.URL + "/"}
				server := s.server()
				server["issuer"] = s.URL + "/"
				s.says["/.well-known/oauth-authorization-server"] = server
			},
			want: func(s *site, w control.Settings) { w["issuer"] = s.URL + "/" },
		},
		"a scope of one's own": {with: func(_ *site, d *exchange.Discovery) { d.Scope = "mine" }, want: func(_ *site, w control.Settings) { w["scope"] = "mine" }},
		"offline access": {
			change: func(s *site) {
				s.says["/.well-known/oauth-authorization-server/as"].(document)["scopes_supported"] = []string{"offline_access"}
			},
			want: func(_ *site, w control.Settings) { w["scope"] = "tools offline_access" },
		},
		"an endpoint at an allowed host": {
			change: func(s *site) {
				s.says["/.well-known/oauth-authorization-server/as"].(document)["token_endpoint"] = "https://tokens.example.com/token"
			},
			with: func(_ *site, d *exchange.Discovery) { d.Hosts = []string{"tokens.example.com"} },
			want: func(_ *site, w control.Settings) { w["token_url"] = "https://tokens.example.com/token" },
		},
		"iss is not announced": {
			change: func(s *site) {
				delete(s.says["/.well-known/oauth-authorization-server/as"].(document), "authorization_response_iss_parameter_supported")
			},
			want: func(_ *site, w control.Settings) { delete(w, "iss") },
		},
		"a client with a secret": {
			change: func(s *site) {
				s.says["/register"] = document{"client_id": "registered", "client_secret": "s3cret-of-client", "client_secret_expires_at": 0, "token_endpoint_auth_method": "client_secret_post"}
			},
			want: func(_ *site, w control.Settings) { w["client_auth"] = "post" }, secret: `{"client_secret":"s3cret-of-client"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			if tc.change != nil {
				tc.change(s)
			}
			found, err := s.discover(t, func(d *exchange.Discovery) {
				if tc.with != nil {
					tc.with(s, d)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			want := control.Settings{
				"auth_url": s.URL + "/authorize", "token_url": s.URL + "/token", "issuer": s.URL + "/as", "iss": "required", "resource": s.URL + "/mcp",
				"redirect_uri": "http://127.0.0.1:4711/callback", "scope": "tools", "client_id": "registered", "client_auth": "none",
			}
			if tc.want != nil {
				tc.want(s, want)
			}
			if !maps.Equal(found.Settings, want) {
				t.Errorf("the settings are %v\nwant %v", found.Settings, want)
			}
			if secret := tc.secret; string(found.Secret) != secret && !(secret == "" && string(found.Secret) == "{}") || found.Host != strings.TrimPrefix(s.URL, "https://") {
				t.Errorf("it is for %s, with another secret, or it is wrong", found.Host)
			}
			if fmt.Sprint(s.sent["redirect_uris"]) != "[http://127.0.0.1:4711/callback]" || s.sent["token_endpoint_auth_method"] != "none" {
				t.Errorf("what was registered is %v", s.sent)
			}
		})
	}
}

// What servers say of themselves may be made to get a code, a token or the control plane
// somewhere else. Nothing is registered, and nothing that they write is repeated.
func TestDiscoverBelievesNoLiar(t *testing.T) {
	const resource, as, register = "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server/as", "/register"
	set := func(path, field string, value func(s, other *site) any) func(s, other *site) {
		return func(s, other *site) { s.says[path].(document)[field] = value(s, other) }
	}
	text := func(value any) func(_, _ *site) any { return func(_, _ *site) any { return value } }
	elsewhere := func(path string) func(_, other *site) any {
		return func(_, other *site) any { return other.URL + path }
	}
	endless := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"client_id": "canary`)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	redirected := func(path string) func(s, other *site) {
		return func(s, other *site) {
			s.says[path] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, other.URL+path, http.StatusTemporaryRedirect)
			})
		}
	}
	for name, tc := range map[string]struct {
		change func(s, other *site)
		want   string
	}{
		"another's resource":         {set(resource, "resource", elsewhere("/mcp")), "is about"},
		"a resource above":           {set(resource, "resource", func(s, _ *site) any { return s.URL }), "is about"},
		"a resource beside":          {set(resource, "resource", func(s, _ *site) any { return s.URL + "/mcp/" }), "is about"},
		"no resource":                {set(resource, "resource", text("")), "is about"},
		"a resource for a terminal":  {set(resource, "resource", text("\x1b]0;owned\a")), `\x1b]0;owned\a`},
		"no authorization server":    {set(resource, "authorization_servers", text([]string{})), "names no authorization server"},
		"one without TLS":            {set(resource, "authorization_servers", text([]string{"http://127.0.0.1/as"})), "no https:// URL"},
		"one of a script":            {set(resource, "authorization_servers", text([]string{"javascript:alert(1)"})), "no https:// URL"},
		"one in a private network":   {set(resource, "authorization_servers", text([]string{"https://10.0.0.1/as"})), "not a public one"},
		"cloud metadata":             {set(resource, "authorization_servers", text([]string{"https://169.254.169.254/as"})), "not a public one"},
		"one that is another":        {set(as, "issuer", elsewhere("/as")), "must name itself"},
		"one with a slash more":      {set(as, "issuer", func(s, _ *site) any { return s.URL + "/as/" }), "must name itself"},
		"another's token endpoint":   {set(as, "token_endpoint", elsewhere("/token")), "may be another's"},
		"another's authorization":    {set(as, "authorization_endpoint", elsewhere("/authorize")), "may be another's"},
		"another's registration":     {set(as, "registration_endpoint", elsewhere("/register")), "may be another's"},
		"a token endpoint in clear":  {set(as, "token_endpoint", func(s, _ *site) any { return "http" + strings.TrimPrefix(s.URL, "https") + "/token" }), "no https:// URL"},
		"a page that is a script":    {set(as, "authorization_endpoint", text("javascript:alert(1)")), "no https:// URL"},
		"a page that is a file":      {set(as, "authorization_endpoint", text("file:///etc/passwd")), "no https:// URL"},
		"a page with a user":         {set(as, "authorization_endpoint", func(s, _ *site) any { return strings.Replace(s.URL, "https://", "https://bank.example@", 1) }), "no https:// URL"},
		"a page for a terminal":      {set(as, "authorization_endpoint", func(s, _ *site) any { return s.URL + "/\x1b[2J" }), "no https:// URL"},
		"no PKCE":                    {set(as, "code_challenge_methods_supported", text(nil)), "PKCE"},
		"plain PKCE":                 {set(as, "code_challenge_methods_supported", text([]string{"plain"})), "PKCE"},
		"no registration":            {set(as, "registration_endpoint", text(nil)), "registers no clients"},
		"tokens without a code":      {set(as, "response_types_supported", text([]string{"token"})), "no authorization codes"},
		"nothing to keep":            {set(as, "grant_types_supported", text([]string{"authorization_code"})), "no refresh tokens"},
		"keys for clients":           {set(as, "token_endpoint_auth_methods_supported", text([]string{"private_key_jwt"})), "in a way that we can't"},
		"a redirect of the resource": {redirected(resource), "answers 307"},
		"a redirect of the issuer":   {redirected(as), "answers 307"},
		"a redirect of the client":   {redirected(register), "does not register"},
		"an endless resource":        {func(s, _ *site) { s.says[resource] = endless }, "not with metadata"},
		"an endless issuer":          {func(s, _ *site) { s.says[as] = endless }, "not with metadata"},
		"an endless client":          {func(s, _ *site) { s.says[register] = endless }, "does not register"},
		"a client's error": {func(s, _ *site) {
			s.says[register] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(400)
				io.WriteString(w, `{"error": "canary", "error_description": "canary"}`)
			})
		}, "does not register"},
		"a client of other redirects":       {set(register, "redirect_uris", text([]string{"https://evil.example.com/callback"})), "other redirects"},
		"a client with a signing key":       {set(register, "token_endpoint_auth_method", text("client_secret_jwt")), "in a way that we can't"},
		"a client whose secret is not":      {set(register, "token_endpoint_auth_method", text("client_secret_basic")), "in a way that we can't"},
		"a client that is a line of a head": {set(register, "client_id", text("canary\r\nX: y")), "control character"},
		"a challenge that leads elsewhere": {func(s, other *site) {
			s.says["/mcp"] = s.challenge(`Bearer resource_metadata="` + other.URL + `/.well-known/oauth-protected-resource/mcp"`)
		}, "is about"},
		"a challenge that leads inside": {func(s, _ *site) {
			s.says["/mcp"] = s.challenge(`Bearer resource_metadata="https://169.254.169.254/latest/meta-data"`)
		}, "not a public one"},
		"a challenge that leads to a file": {func(s, _ *site) {
			s.says["/mcp"] = s.challenge(`Bearer resource_metadata="file:///etc/passwd"`)
		}, "begins with https://"},
		"silence": {func(s, _ *site) { s.says = nil }, "does not say who gives tokens"},
	} {
		t.Run(name, func(t *testing.T) {
			s, other := newSite(t), newSite(t)
			tc.change(s, other)
			_, err := s.discover(t, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "canary") || strings.ContainsAny(err.Error(), "\x1b\a") {
				t.Errorf("error %v, want one that says %q", err, tc.want)
			}
			if at := slices.Index(s.arrived, "POST /register"); at >= 0 && !strings.Contains(name, "client") || slices.Contains(other.arrived, "POST /register") {
				t.Error("a client was registered")
			}
		})
	}
	for _, at := range []string{
		"http://mcp.example.com/mcp", "https://user@mcp.example.com/mcp", "https://mcp.example.com/mcp?x=y", "https://mcp.example.com/mcp#x", "https://*.example.com/mcp",
		"file:///etc/passwd", "mcp.example.com", "", "https://MCP.example.com/mcp", "https://mcp.example.com/" + strings.Repeat("x", 600),
	} {
		if _, err := newSite(t).discover(t, func(d *exchange.Discovery) { d.Resource = at }); control.CodeOf(err) != control.CodeInvalid {
			t.Errorf("the server %q: %v", at, err)
		}
	}
	for _, at := range []string{"https://evil.example.com/callback", "http://evil.example.com:80/callback", "http://127.0.0.1.evil.example.com:80/", ""} {
		if _, err := newSite(t).discover(t, func(d *exchange.Discovery) { d.RedirectURI = at }); control.CodeOf(err) != control.CodeInvalid {
			t.Errorf("codes sent to %q: %v", at, err)
		}
	}
}
