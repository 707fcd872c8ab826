package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha1" // RFC 6455 asks for it
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sallyport/e2e"
)

const socketHost = "socket.example.test"

// socketOrigin is an upstream with a WebSocket at /echo, for those who have the
// token, that sends every message back, one at /tell that tells the token in many
// ways, one at /open that sends messages back to anybody, and a page at / whose
// script uses the first.
func socketOrigin(w *e2e.World, t *testing.T, protocols ...string) string {
	shown := make(chan struct{}, 1)
	server := w.OriginServer(socketHost, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/shown":
			shown <- struct{}{}
			return
		case "/wait":
			select {
			case <-shown:
			case <-time.After(20 * time.Second):
			}
			return
		case "/":
			rw.Header().Set("Content-Type", "text/html")
			fmt.Fprint(rw, page)
			return
		case "/tell":
			tell(rw, r)
			return
		case "/echo", "/open":
		default:
			http.NotFound(rw, r)
			return
		}
		if r.URL.Path != "/open" && r.Header.Get("Authorization") != "Bearer "+token {
			http.Error(rw, "who are you?", http.StatusUnauthorized)
			return
		}
		rw.Header().Set("X-Echo", r.Header.Get("Authorization"))
		c, err := websocket.Accept(rw, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			t.Logf("the handshake: %v", err)
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(-1)
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, message); err != nil {
				return
			}
		}
	}), protocols...)
	return server.Listener.Addr().String()
}

// page has a browser send two messages, and shows what came back. Its picture
// comes when it has: until then it is not loaded, and not printed.
const page = `<!doctype html><p id=out>nothing</p><img src=/wait><script>
const socket = new WebSocket("wss://" + location.host + "/echo"), got = [];
socket.binaryType = "arraybuffer";
socket.onopen = () => { socket.send("hello"); socket.send(new Uint8Array(1 << 20).fill(7)); };
socket.onmessage = e => {
  got.push(typeof e.data === "string" ? e.data : e.data.byteLength);
  if (got.length === 2) socket.close(1000, "done");
};
socket.onclose = e => out.textContent = "closed " + e.code + " " + e.wasClean + " after " + got.join(",");
socket.addEventListener("close", () => fetch("/shown"));
</script>`

// tell sends what it was told as its key: whole, encoded, in two fragments cut at
// every place, in fragments of a byte with pings between, and as the reason of a Close.
func tell(rw http.ResponseWriter, r *http.Request) {
	key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	accept := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	c, _, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(accept[:]))
	frame := func(first byte, payload string) {
		io.WriteString(c, string([]byte{first, byte(len(payload))})+payload)
	}
	for _, said := range []string{key, base64.StdEncoding.EncodeToString([]byte("u:" + key)), hex.EncodeToString([]byte(key)), url.QueryEscape(key)} {
		frame(0x81, "key="+said)
		frame(0x82, "key="+said)
		for cut := 1; cut < len(said); cut++ {
			frame(0x01, said[:cut])
			frame(0x80, said[cut:])
		}
	}
	for i := range len(key) {
		first := byte(0)
		if i == 0 {
			first = 0x01
		}
		frame(first, key[i:i+1])
		frame(0x89, "still there?")
	}
	frame(0x80, "")
	frame(0x81, "that is all")
	frame(0x88, "\x03\xe8"+key)
	io.Copy(io.Discard, c)
}

// TestWebSocketTellsTheKey: of what a service says of the key in messages, however
// encoded and cut, nothing reaches the sandbox.
func TestWebSocketTellsTheKey(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	socketOrigin(w, t, "http/1.1")
	w.Pinned("agent", token, "--host", socketHost, "--inject", "bearer", "--allow-websocket")
	out := w.Run("agent", w.Client("wsclient"), "-messages", "https://"+socketHost+"/tell")
	for _, part := range []string{token, token[:6], token[len(token)-6:], hex.EncodeToString([]byte(token))[:12], base64.StdEncoding.EncodeToString([]byte("u:" + token))[6:14]} {
		if strings.Contains(out, part) {
			t.Errorf("%q is left in\n%s", part, out)
		}
	}
	messages := strings.Count(out, "\n")
	if want := "that is all\nclosed: " + strings.Repeat("*", len(token)) + "\n"; messages < 4*len(token) || !strings.HasSuffix(out, want) {
		t.Errorf("the client read\n%s", out)
	}
	for _, e := range auditOf(t, w) {
		if e.Path == "/tell" && e.Reason != "opened" && e.Redactions < messages-2 {
			t.Errorf("%d redactions of %d messages", e.Redactions, messages)
		}
	}
}

// TestWebSocketPlaceholder: the service never sees one, and the client is told why.
func TestWebSocketPlaceholder(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	socketOrigin(w, t, "http/1.1")
	w.Pinned("agent", token, "--host", socketHost, "--inject", "bearer", "--allow-websocket")
	p := w.Start("agent", w.Client("wsclient"), "-echo", "https://"+socketHost+"/echo")
	if got := p.Ask("vault:agent-not-ours"); got != "vault:agent-not-ours" {
		t.Fatalf("the echo is %q", got)
	}
	if got := p.Ask("my key is vault:agent"); got != "closed: 1008" {
		t.Errorf("after a placeholder %q", got)
	}
}

// TestWebSocketFrames sends a suite of frames to one server, by itself and through
// a sandbox with a credential: each must be answered by the same bytes.
func TestWebSocketFrames(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	address := socketOrigin(w, t, "http/1.1")
	w.Pinned("agent", token, "--host", socketHost, "--inject", "bearer", "--allow-websocket")
	direct := sameFrames(t, w, address, "/echo")
	if len(direct) < 120 {
		t.Fatalf("%d cases", len(direct))
	}
	opened, ended := 0, 0
	for _, e := range auditOf(t, w) {
		if e.Path == "/echo" && e.Status == http.StatusSwitchingProtocols && e.Decision == "inject" {
			if e.Reason == "opened" {
				opened++
			} else {
				ended++
			}
		}
	}
	if opened != len(direct) || ended != len(direct) {
		t.Errorf("audit has %d WebSockets opened and %d ended, want %d of each", opened, ended, len(direct))
	}
}

// TestWebSocketCompression: what carries no credential is passed on as it is, also
// compressed; with one no compression is agreed on.
func TestWebSocketCompression(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	address := socketOrigin(w, t, "http/1.1")
	w.CLI("agent", "create", "plain")
	w.CLI("agent", "policy", "set", "plain", "--default", "inspect")
	if n := len(sameFrames(t, w, address, "/open", "-compressed")); n < 8 {
		t.Errorf("%d cases", n)
	}
	w.Pinned("agent", token, "--host", socketHost, "--inject", "bearer", "--allow-websocket")
	out := w.TryRun("agent", "curl", "-sSi", "--http1.1", "--max-time", "2", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13",
		"-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "-H", "Sec-WebSocket-Extensions: permessage-deflate", "https://"+socketHost+"/echo").Stdout
	if !strings.HasPrefix(out, "HTTP/1.1 101") || strings.Contains(strings.ToLower(out), "extensions") {
		t.Errorf("curl printed %s", out)
	}
}

// sameFrames sends a suite of frames to one server, by itself and through a sandbox,
// and makes sure that each case is answered by the same bytes.
func sameFrames(t *testing.T, w *e2e.World, address, path string, flags ...string) (direct []string) {
	t.Helper()
	agent := "agent"
	if path == "/open" {
		agent = "plain"
	}
	url := "https://" + socketHost + path
	through := strings.Split(strings.TrimSpace(w.Run(agent, append(append([]string{w.Client("wsclient")}, flags...), url)...)), "\n")
	own := exec.Command(w.Client("wsclient"), append(flags, "-connect", address, "-ca", w.UpstreamCA(), "-authorization", "Bearer "+token, url)...)
	var complaint bytes.Buffer
	own.Stderr = &complaint
	out, err := own.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &complaint)
	}
	direct = strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(through) != len(direct) {
		t.Fatalf("%d cases by itself, %d through the sandbox", len(direct), len(through))
	}
	for i := range direct {
		if through[i] != direct[i] {
			t.Errorf("through the sandbox %s\nby itself           %s", through[i], direct[i])
		}
	}
	return direct
}

// TestWebSocketBrowser has Chromium open one on its HTTP/2 connection (RFC 8441).
func TestWebSocketBrowser(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	socketOrigin(w, t, "h2", "http/1.1")
	w.Pinned("agent", token, "--host", socketHost, "--inject", "bearer", "--allow-websocket")
	r := w.TryRun("agent", "sh", "-c", "export HOME=/tmp/home; chromium --headless --no-sandbox --disable-gpu --dump-dom https://"+socketHost+"/ 2>/tmp/chromium.log || cat /tmp/chromium.log")
	if !strings.Contains(r.Stdout, "closed 1000 true after hello,1048576") {
		t.Errorf("the page says\n%s%s", r.Stdout, r.Stderr)
	}
	for _, e := range auditOf(t, w) {
		if e.Path == "/echo" {
			if e.Protocol != "HTTP/2.0" || e.Status != http.StatusSwitchingProtocols || e.Method != http.MethodGet {
				t.Errorf("the event: %+v", e)
			}
			return
		}
	}
	t.Error("there is no event of the WebSocket")
}

// TestWebSocketNotAllowed: a credential alone does not open one.
func TestWebSocketNotAllowed(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	socketOrigin(w, t, "http/1.1")
	w.Pinned("agent", token, "--host", socketHost, "--inject", "bearer")
	out := w.Run("agent", "curl", "-sS", "--http1.1", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket",
		"-H", "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "-w", "%{http_code}", "https://"+socketHost+"/echo")
	if !strings.HasSuffix(out, "501") || !strings.Contains(out, "--allow-websocket") {
		t.Errorf("curl printed %s", out)
	}
}

// TestWebSocketRevoked: one ends with its vault's pin, and not with a rotation.
func TestWebSocketRevoked(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	socketOrigin(w, t, "http/1.1")
	w.Pinned("agent", token, "--host", socketHost, "--inject", "bearer", "--allow-websocket")
	p := w.Start("agent", w.Client("wsclient"), "-echo", "https://"+socketHost+"/echo")
	if got := p.Ask("one"); got != "one" {
		t.Fatalf("the echo is %q", got)
	}
	w.CLIReading("another-token-0123456789", "credential", "rotate", "--vault", "agent", "agent", "--secret-file", "-", "--wait")
	if got := p.Ask("two"); got != "two" {
		t.Fatalf("the echo after a rotation is %q", got)
	}
	w.CLI("agent", "unpin", "agent", "agent")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ended := make(chan int, 1)
	go func() { ended <- p.Wait() }()
	select {
	case <-ended:
	case <-ctx.Done():
		t.Error("the WebSocket outlived the pin by 10 s")
	}
}
