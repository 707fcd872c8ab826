package e2e_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"sallyport/e2e"
)

// TestWebSocketOfClientCertificate: one that was opened by a client certificate is
// searched for placeholders as any other, and therefore not compressed.
func TestWebSocketOfClientCertificate(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(rw, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	}))
	certificate, err := tls.LoadX509KeyPair(w.Certificate(socketHost))
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	w.OriginAt(socketHost, 443, server.Listener.Addr().String())
	w.Pinned("agent", clientPair(t, "client"), "--host", socketHost, "--auth", "client_cert", "--allow-websocket")
	p := w.Start("agent", w.Client("wsclient"), "-echo", "https://"+socketHost+"/echo")
	if got := p.Ask("vault:agent-not-ours"); got != "vault:agent-not-ours" {
		t.Fatalf("the echo is %q", got)
	}
	if got := p.Ask("my key is vault:agent"); got != "closed: 1008" {
		t.Errorf("after a placeholder %q", got)
	}
	out := w.TryRun("agent", "curl", "-sSi", "--http1.1", "--max-time", "2", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13",
		"-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "-H", "Sec-WebSocket-Extensions: permessage-deflate", "https://"+socketHost+"/echo").Stdout
	if !strings.HasPrefix(out, "HTTP/1.1 101") || strings.Contains(strings.ToLower(out), "extensions") {
		t.Errorf("curl printed %s", out)
	}
}
