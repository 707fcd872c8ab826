package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"sallyport/e2e"
)

// The hosts of the MCP server, and of the server that its clients log in at.
const mcpServer, mcpLogin = "tools.sallyport.test", "login.sallyport.test"

// newMCPWorld has both servers at an address that the control plane knows, and an agent
// with the vault "tools".
func newMCPWorld(t *testing.T) (w *e2e.World, server *e2e.Program, address string) {
	t.Helper()
	w = e2e.NewWorld(t, e2e.Shipped)
	w.InstallNode()
	server, address = w.StartMCPLogin(mcpServer, mcpLogin)
	w.StopControl()
	w.StartControlKnowing(address, mcpServer, mcpLogin)
	w.CLI("vault", "create", "tools")
	w.CLI("agent", "create", "agent")
	w.CLI("agent", "pin", "agent", "tools")
	return w, server, address
}

// TestMCPLogin: a person logs in for an MCP server that nobody has told of before, and
// the official SDK's client uses it in a sandbox without a token. Both servers are the
// SDK's: the client registers itself, and a refresh token is good once.
func TestMCPLogin(t *testing.T) {
	const mcp, login = mcpServer, mcpLogin
	w, server, address := newMCPWorld(t)

	begun := w.StartCLI("credential", "login", "--no-browser", "--mcp", "https://"+mcp+"/mcp", "tools/it")
	var page string
	w.Eventually("sallyport says where to allow it", func() bool {
		page = regexp.MustCompile(`https://` + login + `/authorize\S+`).FindString(begun.Output())
		return page != ""
	})
	ca, err := os.ReadFile(w.UpstreamCA())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	browser := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, at string) (net.Conn, error) {
			if strings.HasPrefix(at, login+":") {
				at = net.JoinHostPort(address, "443")
			}
			return new(net.Dialer).DialContext(ctx, network, at)
		},
	}}
	answer, err := browser.Get(page)
	if err != nil || answer.StatusCode != http.StatusOK || answer.Request.URL.Hostname() != "127.0.0.1" {
		t.Fatalf("the browser got %v, %v", answer, err)
	}
	if status := begun.Wait(); status != 0 {
		t.Fatalf("sallyport credential login: %d\n%s", status, begun.Output())
	}
	shown := w.CLI("credential", "show", "--vault", "tools", "it", "-o", "json")
	for _, want := range []string{`"tools.sallyport.test"`, `"https://login.sallyport.test/"`, `"https://tools.sallyport.test/mcp"`} {
		if !strings.Contains(shown, want) {
			t.Errorf("the credential is %s, without %s", shown, want)
		}
	}
	got := w.Run("agent", "node", w.Client("mcp-login-client.mjs"), "https://"+mcp+"/mcp")
	if !strings.HasPrefix(got, "mcp:tools for https://"+mcp+"/mcp, ") {
		t.Errorf("the server said %s", got)
	}
	said := begun.Output() + shown + got
	given := regexp.MustCompile(`gave (\S+)`).FindAllStringSubmatch(server.Output(), -1)
	if len(given) != 4 {
		t.Errorf("the server gave %d tokens, not those of a login and a refresh", len(given))
	}
	for _, token := range given {
		if strings.Contains(said, token[1]) || strings.Contains(w.ControlLog(), token[1]) {
			t.Error("a token was shown")
		}
	}
	// The name is taken, and nothing is registered again.
	if r := w.TryCLI("", "credential", "login", "--no-browser", "--mcp", "https://"+mcp+"/mcp", "tools/it"); r.Status != 1 || !strings.Contains(r.Stderr, "sallyport credential login tools/it") {
		t.Errorf("once more: %+v", r)
	}
}
