package proxy_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"sallyport/sidecar/match"
	"sallyport/sidecar/proxy"
	"sallyport/sidecar/socket"
)

var errStray = errors.New("a placeholder")

// searched has the messages of a WebSocket searched: for "canary" and "vault:key".
func searched(client, upstream io.Writer) (io.WriteCloser, io.WriteCloser) {
	set := func(text string) *match.Set {
		return match.Compile([]match.Pattern{{Units: match.Text([]byte(text))}})
	}
	return socket.Join(client, upstream, match.Search{Set: set("canary"), Secret: true, Found: func(_ int, text []byte) error {
		copy(text, "******")
		return nil
	}}, match.Search{Set: set("vault:key"), Found: func(int, []byte) error { return errStray }})
}

// explained has the errors of searched named.
func explained(c *proxy.Config) {
	c.Explain = func(_ *proxy.Exchange, err error) *proxy.Error {
		switch {
		case errors.Is(err, errStray):
			return proxy.Errorf(http.StatusBadRequest, "stray_placeholder", "%v", err)
		case errors.Is(err, socket.ErrMalformed):
			return proxy.Errorf(http.StatusBadGateway, "malformed_frame", "%v", err)
		}
		return nil
	}
}

func TestMessagesAreSearched(t *testing.T) {
	w := newWorld(t, echoSocket(t), explained)
	w.plan = socketPlan()
	strip := w.plan.Request
	w.plan.Request = func(r *http.Request) error {
		r.Header.Del("Sec-Websocket-Extensions")
		return strip(r)
	}
	w.plan.Messages = searched
	c, _ := w.dial(t)
	echo := func(kind websocket.MessageType, message, want []byte) {
		t.Helper()
		if err := c.Write(t.Context(), kind, message); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(t.Context()); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came back as %d, %v", len(message), len(got), err)
		}
	}
	echo(websocket.MessageText, []byte("a canary sings"), []byte("a ****** sings"))
	echo(websocket.MessageBinary, []byte("canary"), []byte("******"))
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20} {
		message := make([]byte, size)
		rand.Read(message)
		echo(websocket.MessageBinary, message, message)
	}
	if err := c.Write(t.Context(), websocket.MessageText, []byte("use vault:key")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("the client read %q, %v", got, err)
	}
	if x := w.last(t); x.Status != http.StatusSwitchingProtocols || x.Reason != "stray_placeholder" {
		t.Errorf("record %+v", x)
	}
}

// TestMalformedFrameEndsTheConnection, with what came before it passed on.
func TestMalformedFrameEndsTheConnection(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
		fmt.Fprint(c, "\x81\x06canary\xc1\x01x\x81\x04late")
		io.Copy(io.Discard, c)
	}, explained)
	w.plan = socketPlan()
	w.plan.Messages = searched
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	all, _ := io.ReadAll(c) // how it ends is the connection's affair
	if _, frames, _ := strings.Cut(string(all), "\r\n\r\n"); frames != "\x81\x06******" {
		t.Errorf("the client read %q", all)
	}
	if x := w.last(t); x.Reason != "malformed_frame" {
		t.Errorf("record %+v", x)
	}
}
