package exchange

import (
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"sallyport/control"
)

const (
	discoveryTimeout = 25 * time.Second // for all of it
	maxResource      = 512              // bytes of a resource's URL
)

// Discovery is what is asked of a server that says by itself who gives tokens for it,
// as servers of the Model Context Protocol do (RFC 9728).
type Discovery struct {
	Resource    string   // the server's URL
	RedirectURI string   // where codes are sent to, on loopback or the console's
	Console     string   // where the web console takes codes; empty: there is none
	Scope       string   // empty: what the server asks for
	Hosts       []string // where the authorization server may have endpoints beside its issuer's host
}

// Discovered is what an oauth_refresh credential for a resource is made of. Nobody has
// logged in for it yet.
type Discovered struct {
	Host     string // of the resource, with its port unless that is 443
	Settings control.Settings
	Secret   control.Secret
	Ends     time.Time // of the client's registration; zero: it has no end
}

// Discover finds out who gives tokens for a resource, and registers a client there. All
// that servers say is checked to be about the resource and the issuer that were asked
// for; nothing of it is quoted but URLs.
func (x *Exchanger) Discover(ctx context.Context, d Discovery) (Discovered, error) {
	if err := checkRedirect(d.RedirectURI, d.Console); err != nil {
		return Discovered{}, control.Errorf(control.CodeInvalid, "redirect_uri: %v", err)
	}
	resource, err := parseResource(d.Resource)
	if err != nil {
		return Discovered{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, discoveryTimeout)
	defer cancel()
	protected, asked, err := x.protected(ctx, resource)
	if err != nil {
		return Discovered{}, err
	}
	server, err := x.authorizationServer(ctx, protected.AuthorizationServers[0], d.Hosts)
	if err != nil {
		return Discovered{}, err
	}
	scope := d.Scope
	if scope == "" {
		scope = scopeFor(asked, protected, server)
	}
	found := Discovered{Host: strings.TrimSuffix(resource.Host, ":443"), Settings: control.Settings{
		"auth_url": server.AuthorizationEndpoint, "token_url": server.TokenEndpoint, "issuer": server.Issuer,
		"resource": protected.Resource, "redirect_uri": d.RedirectURI,
	}}
	if scope != "" {
		found.Settings["scope"] = scope
	}
	if server.AuthorizationResponseIssParameterSupported {
		found.Settings["iss"] = issRequired
	}
	return found, x.register(ctx, server, &found)
}

// parseResource reads the URL of a resource. It is one to the letter from here on.
func parseResource(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case checkURL(text) != nil || err != nil || u.RawQuery != "" || u.ForceQuery || len(text) > maxResource:
		return nil, control.Errorf(control.CodeInvalid, "the server's URL is one as https://mcp.example.com/mcp, without user, query and fragment")
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r == '*' || 'A' <= r && r <= 'Z' }):
		return nil, control.Errorf(control.CodeInvalid, "the host in the server's URL is a name in small letters")
	case u.Path == "/":
		u.Path = ""
	}
	return u, nil
}

// protected gives the metadata of a resource (RFC 9728 section 3), and the scope that it
// asks for: from where it says itself that they are, else from the well-known places of
// its path and of its host.
func (x *Exchanger) protected(ctx context.Context, resource *url.URL) (oauthex.ProtectedResourceMetadata, string, error) {
	var none oauthex.ProtectedResourceMetadata
	at, scope, err := x.challenged(ctx, resource)
	if err != nil {
		return none, "", err
	}
	origin := &url.URL{Scheme: resource.Scheme, Host: resource.Host}
	type place struct {
		at string
		of *url.URL
	}
	places := []place{{at, resource}}
	if at == "" {
		const known = "/.well-known/oauth-protected-resource"
		places = []place{{origin.String() + known + strings.TrimSuffix(resource.EscapedPath(), "/"), resource}, {origin.String() + known, origin}}
	}
	for _, place := range places {
		metadata, found, err := fetch[oauthex.ProtectedResourceMetadata](ctx, x.client, place.at)
		switch {
		case err != nil:
			return none, "", err
		case !found:
			continue
		case metadata.Resource != place.of.String() && (place.of.Path != "" || metadata.Resource != place.of.String()+"/"):
			return none, "", control.Errorf(control.CodeExchange, "what %s says is about %.256q and not about %s: if that is the server that you mean, give its URL", host(place.at), metadata.Resource, place.of)
		case len(metadata.AuthorizationServers) == 0:
			return none, "", control.Errorf(control.CodeExchange, "%s names no authorization server, so nobody can log in for it", host(place.at))
		}
		return *metadata, scope, nil
	}
	return none, "", control.Errorf(control.CodeExchange, "%s does not say who gives tokens for it (RFC 9728): there may be none, or it takes a key (sallyport credential add)", resource.Host)
}

// challenged asks a resource without a token and gives what it says of where its metadata
// are (RFC 9728 section 5.1) and of the scope (RFC 6750 section 3), if it does.
func (x *Exchanger) challenged(ctx context.Context, resource *url.URL) (at, scope string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, resource.String(), nil)
	if err != nil {
		return "", "", control.Errorf(control.CodeInvalid, "the server's URL can't be asked for")
	}
	r.Header.Set("Accept", "application/json, text/event-stream")
	response, err := x.client.Do(r)
	if err != nil {
		return "", "", failed(resource.String(), err)
	}
	defer response.Body.Close()
	challenges, err := oauthex.ParseWWWAuthenticate(response.Header.Values("WWW-Authenticate"))
	if response.StatusCode != http.StatusUnauthorized || err != nil {
		return "", "", nil
	}
	for _, c := range challenges {
		if strings.EqualFold(c.Scheme, "bearer") {
			return c.Params["resource_metadata"], c.Params["scope"], nil
		}
	}
	return "", "", nil
}

// authorizationServer gives the metadata of an issuer (RFC 8414 section 3, OpenID Connect
// Discovery 1.0 section 4), whose endpoints are at its own host or at one of hosts: a
// code for one server must not go to another (RFC 9700 section 4.4).
func (x *Exchanger) authorizationServer(ctx context.Context, issuer string, hosts []string) (oauthex.AuthServerMeta, error) {
	u, err := url.Parse(issuer)
	if checkURL(issuer) != nil || err != nil || u.RawQuery != "" || len(issuer) > maxResource {
		return oauthex.AuthServerMeta{}, control.Errorf(control.CodeExchange, "the server names an authorization server %.256q, which is no https:// URL without query", issuer)
	}
	for _, at := range issuerPlaces(u) {
		server, found, err := fetch[oauthex.AuthServerMeta](ctx, x.client, at)
		if err != nil {
			return oauthex.AuthServerMeta{}, err
		}
		if found {
			return *server, checkServer(*server, issuer, append([]string{u.Host}, hosts...))
		}
	}
	return oauthex.AuthServerMeta{}, control.Errorf(control.CodeExchange, "the authorization server %s does not say what it can (RFC 8414)", u.Host)
}

// issuerPlaces are the well-known places of an issuer's metadata.
func issuerPlaces(issuer *url.URL) []string {
	const oauth, openid = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
	origin, path := issuer.Scheme+"://"+issuer.Host, strings.TrimSuffix(issuer.EscapedPath(), "/")
	if path == "" {
		return []string{origin + oauth, origin + openid}
	}
	return []string{origin + oauth + path, origin + openid + path, origin + path + openid}
}

// checkServer reports why nobody can be sent to log in at an authorization server.
func checkServer(s oauthex.AuthServerMeta, issuer string, hosts []string) error {
	if s.Issuer != issuer { // RFC 8414 section 3.3
		return control.Errorf(control.CodeExchange, "the authorization server %s says that it is %.256q: it must name itself as the server names it", issuer, s.Issuer)
	}
	for _, endpoint := range []struct{ name, at string }{
		{"authorization", s.AuthorizationEndpoint}, {"token", s.TokenEndpoint}, {"registration", s.RegistrationEndpoint},
	} {
		u, err := url.Parse(endpoint.at)
		switch {
		case endpoint.at == "" && endpoint.name == "registration":
			return control.Errorf(control.CodeExchange, "%s registers no clients by itself (RFC 7591): register one there, and store it with sallyport credential add --auth oauth_refresh, token_url %s and auth_url %s", host(issuer), s.TokenEndpoint, s.AuthorizationEndpoint)
		case err != nil || checkURL(endpoint.at) != nil || len(endpoint.at) > maxResource:
			return control.Errorf(control.CodeExchange, "the %s endpoint of %s is no https:// URL", endpoint.name, host(issuer))
		case !slices.Contains(hosts, u.Host):
			return control.Errorf(control.CodeExchange, "the %s endpoint of %s is at %q, which may be another's: allow that host (--endpoint-host) if it is the same owner's", endpoint.name, host(issuer), u.Host)
		}
	}
	switch {
	case !slices.Contains(s.CodeChallengeMethodsSupported, "S256"):
		return control.Errorf(control.CodeExchange, "%s does not say that it checks PKCE with S256 (RFC 7636), so a code could be used by others", host(issuer))
	case len(s.ResponseTypesSupported) > 0 && !slices.Contains(s.ResponseTypesSupported, "code"):
		return control.Errorf(control.CodeExchange, "%s gives no authorization codes", host(issuer))
	case len(s.GrantTypesSupported) > 0 && !slices.Contains(s.GrantTypesSupported, "refresh_token"):
		return control.Errorf(control.CodeExchange, "%s gives no refresh tokens, so there is nothing to keep", host(issuer))
	}
	return nil
}

// scopeFor is what to ask for: what the resource has asked for, else all that it knows;
// and what makes many servers give a refresh token.
func scopeFor(asked string, protected oauthex.ProtectedResourceMetadata, server oauthex.AuthServerMeta) string {
	scopes := strings.Fields(asked)
	if len(scopes) == 0 {
		scopes = slices.Clone(protected.ScopesSupported)
	}
	const offline = "offline_access"
	if slices.Contains(server.ScopesSupported, offline) && !slices.Contains(scopes, offline) {
		scopes = append(scopes, offline)
	}
	return strings.Join(scopes, " ")
}

// fetch gets a JSON document. It is not found where the server says 4xx.
func fetch[T any](ctx context.Context, client *http.Client, at string) (*T, bool, error) {
	if err := checkURL(at); err != nil {
		return nil, false, control.Errorf(control.CodeExchange, "a server names %.256q for what it says of itself: %v", at, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, false, control.Errorf(control.CodeExchange, "a server names %.256q for what it says of itself, which can't be asked for", at)
	}
	r.Header.Set("Accept", "application/json")
	response, err := client.Do(r)
	if err != nil {
		return nil, false, failed(at, err)
	}
	defer response.Body.Close()
	if response.StatusCode/100 == 4 {
		return nil, false, nil
	}
	kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	document := new(T)
	if response.StatusCode != http.StatusOK || err != nil || kind != "application/json" || json.NewDecoder(response.Body).Decode(document) != nil {
		return nil, false, control.Errorf(control.CodeExchange, "%s answers %d, and not with metadata in JSON", r.URL.Host, response.StatusCode)
	}
	return document, true, nil
}
