package console_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"sallyport/control"
	"sallyport/control/admin"
	"sallyport/control/console"
	oidc "sallyport/control/controltest/issuer"
	"sallyport/control/login"
)

// people: somebody logs in by an OpenID Connect issuer, and an answer that they did not
// ask for logs nobody in.
func people(t *testing.T, b *tab, _ string) {
	team := plane.NewTeam(t)
	var front http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { front.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	redirect, err := console.RedirectURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	config := plane.Admin.Config
	if config.People, err = login.New(login.Config{
		Issuer: oidc.Start(t, redirect), ClientID: "native", GroupsClaim: "preferred_username", Redirect: redirect,
		Mappings: []login.Mapping{{Group: "alice", Grant: control.Grant{Team: team.Name, Role: control.RoleAdmin}}},
	}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	api, err := admin.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if front, err = console.New(api, server.URL); err != nil {
		t.Fatal(err)
	}

	// Somebody else's answer, that a page has brought this browser to.
	b.do(chromedp.Navigate(redirect + "?code=another&state=theirs"))
	b.see("no answer to a login begun in this tab")
	if at := b.eval("location.href"); at != server.URL+"/console/" {
		t.Errorf("the address keeps the answer: %s", at)
	}

	host := strings.TrimSuffix(strings.TrimPrefix(config.People.Issuer, "http://"), "/")
	b.press("Log in with " + host)
	b.until("the issuer's form", `document.querySelector("input[name=username]") !== null`)
	b.do(chromedp.SendKeys(chromedp.CSS("input[name=username]"), "alice"), chromedp.SendKeys(chromedp.CSS("input[name=password]"), "verysecure\r"))
	b.until("the console", `document.querySelector("nav")?.innerText.includes("alice@example.com") && document.querySelector("main h1") !== null`)
	b.checkCookies(server.URL)
	if at := b.eval("location.href"); strings.Contains(at, "code=") || b.eval("JSON.stringify({...sessionStorage})") != "{}" {
		t.Errorf("what the login was done with is still there: %s", at)
	}
	b.do(chromedp.KeyEvent("g"), chromedp.KeyEvent("e"))
	b.see("admin of " + team.Name)
	b.press("Sign out")
	b.see("Log in with")
}
