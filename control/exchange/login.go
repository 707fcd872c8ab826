package exchange

import (
	"context"
	"errors"
	"net/netip"
	"net/url"

	"sallyport/control"
)

// Login is what a person's browser brought back from an authorization server: a code,
// which is worth nothing without the verifier (RFC 7636) and, unless the client is a
// public one, the client secret.
type Login struct {
	Code, Verifier control.Secret
	RedirectURI    string
	Console        string // where the web console takes codes; empty: there is none
}

// CheckRedirect reports why a browser can't be sent to a URI with a code: it must stay
// on the person's machine (RFC 8252 section 7.3).
func CheckRedirect(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Port() == "" || u.User != nil || u.Fragment != "" || u.RawQuery != "" {
		return errors.New("it is a URL as http://127.0.0.1:PORT/PATH")
	}
	if a, err := netip.ParseAddr(u.Hostname()); u.Hostname() != "localhost" && (err != nil || !a.IsLoopback()) {
		return errors.New("its host is 127.0.0.1, ::1 or localhost: the code stays on the machine of who logs in")
	}
	return nil
}

// checkRedirect is CheckRedirect, which also takes the web console's own URI: its page
// keeps the verifier, as a program on the person's machine does.
func checkRedirect(text, console string) error {
	if console != "" && text == console {
		return nil
	}
	return CheckRedirect(text)
}

// checkRegistered reports why a client can't be registered with a URI. What comes there is
// for whoever began the login, so it may be any console's.
func checkRegistered(text string) error {
	if checkURL(text) == nil {
		return nil
	}
	return CheckRedirect(text)
}

// Redeem exchanges a code for a refresh token, and gives the secret of c with that in
// it. secret, the one that is stored, stays.
func (x *Exchanger) Redeem(ctx context.Context, c control.Credential, secret control.Secret, login Login) (control.Secret, error) {
	if err := checkRedirect(login.RedirectURI, login.Console); err != nil {
		return nil, control.Errorf(control.CodeInvalid, "redirect_uri: %v", err)
	}
	if c.Auth != control.AuthOAuthRefresh {
		return nil, control.Errorf(control.CodeInvalid, "a login is for auth %s; %s/%s has auth %s", control.AuthOAuthRefresh, c.Vault, c.Name, c.Auth)
	}
	grant, err := readGrant(c, secret)
	if err != nil {
		return nil, err
	}
	defer wipeFields(grant)
	params := url.Values{
		"grant_type": {"authorization_code"}, "code": {string(login.Code)}, "redirect_uri": {login.RedirectURI}, "code_verifier": {string(login.Verifier)},
	}
	request, err := clientRequest(c.Settings, grant["client_secret"], params)
	if err != nil {
		return nil, err
	}
	params.Del("scope") // RFC 6749 section 4.1.3: it was said when the code was asked for
	minted, refresh, err := request.send(ctx, x.client)
	if err != nil {
		return nil, forgotten(c, err)
	}
	minted.Wipe()
	defer refresh.Wipe()
	if len(refresh) == 0 {
		return nil, control.Errorf(control.CodeExchange, "%s gave no refresh token; many servers give one only for the scope offline_access, Google's for access_type=offline in auth_url", host(request.url))
	}
	grant["refresh_token"].Wipe()
	grant["refresh_token"] = refresh
	return writeFields(grant), nil
}
