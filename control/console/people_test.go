package console_test

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"sallyport/control"
	"sallyport/control/admin"
	"sallyport/control/console"
	"sallyport/control/login"
)

// startIssuer starts the example server of zitadel/oidc, a certified OpenID provider
// that nobody here wrote, with one user whose password is "verysecure".
func startIssuer(t *testing.T, redirect string) (issuer string) {
	t.Helper()
	users, err := json.Marshal(map[string]map[string]any{
		"id-alice": {"ID": "id-alice", "Username": "alice", "Password": "verysecure", "Email": "alice@example.com", "EmailVerified": true, "PreferredLanguage": "en"},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users.json")
	if err := os.WriteFile(file, users, 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	cmd := exec.Command("../../.cache/bin/oidc-example-server")
	cmd.Env = append(os.Environ(), "PORT="+port, "USERS_FILE="+file, "REDIRECT_URI="+redirect)
	if err := cmd.Start(); err != nil {
		t.Fatalf("the issuer (scripts/setup test builds it): %v", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait() // killed
	})
	issuer = "http://localhost:" + port + "/"
	for range 500 {
		if r, err := http.Get(issuer + ".well-known/openid-configuration"); err == nil {
			r.Body.Close()
			return issuer
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the issuer does not answer")
	return ""
}

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
		Issuer: startIssuer(t, redirect), ClientID: "native", GroupsClaim: "preferred_username", Redirect: redirect,
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
