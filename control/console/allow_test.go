package console_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"sallyport/control"
	"sallyport/control/admin"
	"sallyport/control/console"
	"sallyport/control/controltest"
	oidc "sallyport/control/controltest/issuer"
)

// guarded is an authorization server behind TLS, with what it was asked for tokens and gave.
type guarded struct {
	*httptest.Server
	mu    sync.Mutex
	asked []url.Values
	given string
}

func (g *guarded) seen() (asked []url.Values, given string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked, g.given
}

// guard puts TLS, with the certificate that the control plane trusts, before a server.
func guard(t *testing.T, server string) *guarded {
	t.Helper()
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	g := &guarded{}
	proxy := &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			if r.In.Method == http.MethodPost && strings.HasSuffix(r.In.URL.Path, "/token") {
				text, _ := io.ReadAll(r.In.Body)
				r.Out.Body = io.NopCloser(bytes.NewReader(text))
				form, _ := url.ParseQuery(string(text))
				g.mu.Lock()
				g.asked = append(g.asked, form)
				g.mu.Unlock()
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if !strings.HasSuffix(r.Request.URL.Path, "/token") {
				return nil
			}
			text, err := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(text))
			g.mu.Lock()
			g.given += string(text)
			g.mu.Unlock()
			return err
		},
	}
	g.Server = httptest.NewTLSServer(proxy)
	t.Cleanup(g.Close)
	return g
}

// consoleOf serves a console that knows its own address, and takes codes.
func consoleOf(t *testing.T) (at, codesTo string) {
	t.Helper()
	var front http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { front.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	config := plane.Admin.Config
	var err error
	if config.CodesTo, err = console.CodesTo(server.URL); err != nil {
		t.Fatal(err)
	}
	api, err := admin.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if front, err = console.New(api, server.URL); err != nil {
		t.Fatal(err)
	}
	return server.URL, config.CodesTo
}

// allowing: a person allows a credential something at an authorization server that others
// wrote, from its page and back to it, and no token comes to the browser.
func allowing(t *testing.T, b *tab, _ string) {
	at, codesTo := consoleOf(t)
	team := plane.NewTeam(t)
	server := guard(t, oidc.Start(t, codesTo))
	loginFor(t, team, server.URL, nil)
	b.signIn(at, tokenOf(t, team, control.RoleAdmin))
	here := at + "/console/#/t/" + team.Name + "/vaults/v/mine"
	b.do(chromedp.Navigate(here))
	b.press("Log in")
	b.see("this browser never does")
	b.shoot("allow")
	b.press("Log in at " + strings.TrimPrefix(server.URL, "https://"))
	b.until("the server's form", `document.querySelector("input[name=username]") !== null`)
	b.do(chromedp.SendKeys(chromedp.CSS("input[name=username]"), "alice"), chromedp.SendKeys(chromedp.CSS("input[name=password]"), "verysecure\r"))
	b.see("mine is now version 2, by what was just allowed.")
	if now := b.eval("location.href"); now != here || b.eval("JSON.stringify({...sessionStorage})") != "{}" {
		t.Errorf("what the login was done with is still there, at %s", now)
	}
	asked, given := server.seen()
	var tokens struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(given), &tokens); err != nil || len(asked) != 1 || tokens.Refresh == "" || asked[0].Get("redirect_uri") != codesTo || asked[0].Get("grant_type") != "authorization_code" {
		t.Fatalf("the control plane asked %v and got %d bytes, %v", asked, len(given), err)
	}
	for _, secret := range []string{tokens.Access, tokens.Refresh, asked[0].Get("code_verifier")} {
		b.nowhere("logged in for", secret)
	}
	if e := team.Events(t)[0]; e.Kind != "credential.login" || !strings.HasPrefix(e.Actor, "token:") {
		t.Errorf("the newest event is %+v", e)
	}

	// The address once more, as from the history of another program: it was good once.
	b.do(chromedp.Navigate(codesTo + "?code=" + asked[0].Get("code") + "&state=x"))
	b.see("no answer to a login begun in this tab")
	if asked, _ := server.seen(); len(asked) != 1 {
		t.Errorf("the server was asked %d times", len(asked))
	}
}

// loginFor stores a credential that somebody can log in for.
func loginFor(t *testing.T, team *controltest.Team, server string, more map[string]string) {
	t.Helper()
	settings := map[string]string{
		"token_url": server + "/oauth/token", "auth_url": server + "/auth", "client_id": "native", "client_auth": "none", "scope": "openid offline_access",
	}
	for name, value := range more {
		settings[name] = value
	}
	team.Must(t, "POST", "vaults", map[string]any{"name": "v"}, nil)
	team.Must(t, "POST", "vaults/v/credentials", map[string]any{
		"name": "mine", "hosts": []string{"api.example.com"}, "auth": "oauth_refresh", "settings": settings, "secret": "{}",
	}, nil)
}

// notAllowed: answers that a page has this browser bring, or that are another's, are not
// exchanged, and say why.
func notAllowed(t *testing.T, b *tab, _ string) {
	at, codesTo := consoleOf(t)
	team := plane.NewTeam(t)
	server := guard(t, "http://127.0.0.1:1") // which nobody has to ask
	loginFor(t, team, server.URL, map[string]string{"issuer": server.URL + "/", "iss": "required"})
	token := tokenOf(t, team, control.RoleAdmin)
	b.signIn(at, token)
	back := func(query, want string) {
		t.Helper()
		b.do(chromedp.Navigate(codesTo + "?" + query))
		b.until("the console", `document.querySelector("nav") !== null`)
		b.see(want)
		if now := b.eval("location.href"); strings.Contains(now, "code=") || !strings.HasPrefix(now, at+"/console/") {
			t.Errorf("the address is %s", now)
		}
		b.press("Done")
	}
	back("code=theirs&state=theirs", "no answer to a login begun in this tab")
	b.do(chromedp.Navigate(at + "/console/#/t/" + team.Name + "/vaults/v/mine"))
	b.press("Log in")
	b.press("Log in at " + strings.TrimPrefix(server.URL, "https://"))
	b.until("the server's page", `location.protocol === "https:"`)
	b.do(chromedp.Navigate(at + "/console/"))
	b.until("the console", `document.querySelector("nav") !== null`)
	kept := b.eval(`sessionStorage.getItem("sallyport.allow")`)
	// begin has this tab as it is when the login was begun, and gives the state.
	begin := func(with string) string {
		t.Helper()
		b.eval(`sessionStorage.setItem("sallyport.allow", JSON.stringify({...JSON.parse(` + quoted(kept) + `), ` + with + `}))`)
		return b.eval(`JSON.parse(sessionStorage.getItem("sallyport.allow")).state`)
	}
	iss := "&iss=" + url.QueryEscape(server.URL+"/")
	state := begin("")
	back("code=theirs&state=theirs"+iss, "no answer to a login begun in this tab")
	back("code=theirs&state="+state+iss, "no answer to a login begun in this tab") // it was for one answer
	back("code=c&state="+begin(""), "of another server")
	back("code=c&state="+begin("")+"&iss=https%3A%2F%2Fevil.example.com%2F", "of another server")
	back("code=c&state="+begin("")+iss+iss, "of another server")
	back("code=c&code=d&state="+begin("")+iss, "It was not allowed")
	back("code=c&state="+begin("at: Date.now() - 601000")+iss, "longer than ten minutes")
	back("error=access_denied&state="+begin("")+iss, "It was not allowed: access_denied.")
	back("error=%3Cb%3ECall+0800%3C/b%3E&error_description=x&state="+begin("")+iss, "the server gives no reason")

	// Whoever is signed in when the answer comes has begun it: here that is another.
	state = begin("")
	b.press("Sign out")
	b.enter("API token", tokenOf(t, team, control.RoleAdmin))
	b.press("Sign in")
	b.until("the console", `document.querySelector("nav") !== null`)
	back("code=c&state="+state+iss, "since the login was begun")
	if asked, _ := server.seen(); len(asked) != 0 {
		t.Errorf("the server was asked for tokens: %v", asked)
	}
	b.shoot("not-allowed")
}
