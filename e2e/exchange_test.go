package e2e_test

import (
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"sallyport/e2e"
)

// TestClientSecretStaysInTheControlPlane: an agent uses a service by access tokens that
// the control plane gets for a client secret. The service sees an access token, the
// sandbox neither, and the sidecar never the client secret.
func TestClientSecretStaysInTheControlPlane(t *testing.T) {
	const secret, wrong = "client-secret-0123456789abcdef", "wrong-secret-0123456789abcdef"
	w := e2e.NewWorld(t, e2e.Shipped)
	s := e2e.NewTokens(t, secret)
	w.OriginServer(e2e.TokensHost, s, "h2", "http/1.1")
	endpoint := w.OriginServer("localhost", http.HandlerFunc(s.ServeHTTP), "http/1.1")
	_, port, _ := strings.Cut(endpoint.Listener.Addr().String(), ":")
	w.Pinned("tokens", secret, "--host", e2e.TokensHost, "--auth", "oauth_client",
		"--setting", "token_url=https://localhost:"+port+"/oauth/token", "--setting", "client_id="+e2e.TokensClient)
	agent := w.Start("tokens", "bash", "-c", `while read -r line; do eval "$line" 2>&1 | tr '\n' ' '; echo; done`)
	ask := "curl -sS -w ' %{http_code}' https://" + e2e.TokensHost + "/me"

	got := agent.Ask(ask) + agent.Ask(ask) + agent.Ask("env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' ' '")
	if strings.Count(got, `"client":"`+e2e.TokensClient+`"`) != 2 || strings.Count(got, " 200") < 2 {
		t.Errorf("the agent got %s", got)
	}
	unseen(t, s, got)
	if strings.Contains(got, secret) {
		t.Error("the agent saw the client secret")
	}
	if n := s.Arrived("POST /oauth/token"); n != 1 {
		t.Errorf("%d exchanges for 2 requests", n)
	}
	found := agent.InWorkerMemory(map[string]string{"access": s.Made()[0], "secret": secret})
	if found["access"] == 0 || found["secret"] != 0 {
		t.Errorf("in the sidecar's memory: %v, want the access token alone", found)
	}

	// An exchange that fails is told as such, and nothing is sent.
	before := s.Arrived("GET /me")
	w.CLIReading(wrong, "credential", "rotate", "--vault", "tokens", "tokens", "--secret-file", "-", "--wait")
	got = agent.Ask(ask)
	if !strings.Contains(got, " 502") || !strings.Contains(got, `"exchange_failed"`) || !strings.Contains(got, "invalid_client") {
		t.Errorf("with the wrong secret the agent got %s", got)
	}
	if s.Arrived("GET /me") != before {
		t.Error("a request was sent without a token")
	}
	w.CLIReading(secret, "credential", "rotate", "--vault", "tokens", "tokens", "--secret-file", "-", "--wait")
	if got = agent.Ask(ask); !strings.Contains(got, " 200") {
		t.Errorf("with the right secret again the agent got %s", got)
	}
	for _, known := range append(s.Made(), secret, wrong) {
		if strings.Contains(w.ControlLog(), known) {
			t.Error("the control plane's log has a secret")
		}
	}
}

// TestLogin: a person allows something in a browser, the control plane gets the tokens
// and keeps the refresh token as the server gives it anew, and an agent uses it.
func TestLogin(t *testing.T) {
	const secret = "client-secret-0123456789abcdef"
	w := e2e.NewWorld(t, e2e.Shipped)
	s := e2e.NewTokens(t, secret)
	w.OriginServer(e2e.TokensHost, s, "h2", "http/1.1")
	endpoint := w.OriginServer("localhost", http.HandlerFunc(s.ServeHTTP), "http/1.1")
	_, port, _ := strings.Cut(endpoint.Listener.Addr().String(), ":")
	at := "https://localhost:" + port + "/oauth/"
	w.Pinned("tokens", `{"client_secret": "`+secret+`"}`, "--host", e2e.TokensHost, "--auth", "oauth_refresh",
		"--setting", "token_url="+at+"token", "--setting", "auth_url="+at+"authorize", "--setting", "client_id="+e2e.TokensClient)
	ask := []string{"curl", "-sS", "-w", " %{http_code}", "https://" + e2e.TokensHost + "/me"}
	if got := w.Run("tokens", ask...); !strings.Contains(got, " 502") || !strings.Contains(got, "credential login tokens/tokens") {
		t.Errorf("before anybody has logged in the agent got %s", got)
	}

	login := w.StartCLI("credential", "login", "--no-browser", "tokens/tokens")
	var address string
	w.Eventually("sallyport says where to allow it", func() bool {
		address = regexp.MustCompile(`https://\S+`).FindString(login.Output())
		return address != ""
	})
	page := endpoint.Client().Transport.(*http.Transport)
	ca, err := os.ReadFile(w.UpstreamCA())
	if err != nil {
		t.Fatal(err)
	}
	page.TLSClientConfig.RootCAs.AppendCertsFromPEM(ca)
	browser := &http.Client{Transport: page}
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	redirect := parsed.Query().Get("redirect_uri")
	// Another page of the web sends a code of its own.
	forged, err := browser.Get(redirect + "?code=forged&state=guessed")
	if err != nil || forged.StatusCode != http.StatusBadRequest {
		t.Errorf("a forged code: %v, %v", forged, err)
	}
	answer, err := browser.Get(address)
	if err != nil || answer.StatusCode != http.StatusOK || answer.Request.URL.Hostname() != "127.0.0.1" {
		t.Fatalf("the browser got %v, %v", answer, err)
	}
	if status := login.Wait(); status != 0 {
		t.Fatalf("sallyport credential login: %d\n%s", status, login.Output())
	}
	unseen(t, s, login.Output())
	if n := strings.Count(w.CLI("audit", "list", "-o", "json"), `"credential.login"`); n != 1 {
		t.Errorf("%d events tell of the login", n)
	}

	for range 2 { // each sandbox leases anew
		if got := w.Run("tokens", ask...); !strings.Contains(got, " 200") {
			t.Errorf("the agent got %s", got)
		}
	}
	// What the server rotated was stored: a control plane that begins anew goes on.
	w.StopControl()
	w.StartControl()
	if got := w.Run("tokens", ask...); !strings.Contains(got, " 200") {
		t.Errorf("after a restart the agent got %s", got)
	}
	for _, known := range append(s.Made(), secret) {
		if strings.Contains(w.ControlLog(), known) {
			t.Error("the control plane's log has a secret")
		}
	}
}
