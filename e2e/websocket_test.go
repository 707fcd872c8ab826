package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sallyport/e2e"
)

const socketHost = "socket.example.test"

// socketOrigin is an upstream with a WebSocket at /echo, for those who have the
// token, that sends every message back, and a page at / whose script uses it.
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
		case "/echo":
		default:
			http.NotFound(rw, r)
			return
		}
		if r.Header.Get("Authorization") != "Bearer "+token {
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

// TestWebSocketFrames sends a suite of frames to one server, by itself and through
// a sandbox with a credential: each must be answered by the same bytes.
func TestWebSocketFrames(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	address := socketOrigin(w, t, "http/1.1")
	w.Pinned("agent", token, "--host", socketHost, "--inject", "bearer", "--allow-websocket")
	url := "https://" + socketHost + "/echo"

	var through, direct []string
	through = strings.Split(strings.TrimSpace(w.Run("agent", w.Client("wsclient"), url)), "\n")
	own := exec.Command(w.Client("wsclient"), "-connect", address, "-ca", w.UpstreamCA(), "-authorization", "Bearer "+token, url)
	var complaint bytes.Buffer
	own.Stderr = &complaint
	out, err := own.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &complaint)
	}
	direct = strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(direct) < 130 || len(through) != len(direct) {
		t.Fatalf("%d cases by itself, %d through the sandbox", len(direct), len(through))
	}
	for i := range direct {
		if through[i] != direct[i] {
			t.Errorf("through the sandbox %s\nby itself           %s", through[i], direct[i])
		}
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
