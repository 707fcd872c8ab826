//lint:file-ignore SA1019 net/http's own transport refuses the pseudo-header by which a CONNECT asks for a protocol.

package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"

	"sallyport/sidecar/proxy"
)

// echoSocket is an upstream that sends each WebSocket message back, and in its
// handshake the credential.
func echoSocket(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Echo", r.Header.Get("Authorization"))
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"b"}, CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			return // the handshake was refused, and answered
		}
		defer c.CloseNow()
		c.SetReadLimit(-1)
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, message); err != nil {
				t.Log(err)
				return
			}
		}
	}
}

// socketPlan injects and may change to WebSocket.
func socketPlan() proxy.Plan {
	return proxy.Plan{
		Decision: proxy.Inject, Credential: "c", Version: 1, Upgrade: true,
		Request: func(r *http.Request) error {
			r.Header.Set("Authorization", "canary")
			return nil
		},
		Response: func(r *http.Response) error {
			if r.Header.Get("X-Echo") != "" {
				r.Header.Set("X-Echo", strings.ReplaceAll(r.Header.Get("X-Echo"), "canary", "******"))
			}
			return nil
		},
	}
}

// dial opens a WebSocket through the Server.
func (w *world) dial(t *testing.T) (*websocket.Conn, *http.Response) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", w.address)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	c, response, err := websocket.Dial(t.Context(), "ws://example.com/socket", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{"a", "b"}, CompressionMode: websocket.CompressionContextTakeover,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	c.SetReadLimit(-1)
	return c, response
}

func TestWebSocket(t *testing.T) {
	w := newWorld(t, echoSocket(t))
	w.plan = socketPlan()
	c, response := w.dial(t)
	if c.Subprotocol() != "b" || !strings.Contains(response.Header.Get("Sec-Websocket-Extensions"), "permessage-deflate") {
		t.Errorf("agreed on %q and %q", c.Subprotocol(), response.Header.Get("Sec-Websocket-Extensions"))
	}
	if got := response.Header.Get("X-Echo"); got != "******" {
		t.Errorf("the upstream saw, and the client was told, %q", got)
	}
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20, 8 << 20} {
		message := make([]byte, size)
		rand.Read(message[:size/2]) // the other half can be compressed
		if err := c.Write(t.Context(), websocket.MessageBinary, message); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(t.Context()); err != nil || !bytes.Equal(got, message) {
			t.Fatalf("%d bytes came back as %d: %v", size, len(got), err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
		t.Error(err)
	}
	if x := w.last(t); x.Status != http.StatusSwitchingProtocols || x.RequestBytes < 4<<20 || x.ResponseBytes < 4<<20 || x.Reason != "" {
		t.Errorf("record %+v", x)
	}
}

// TestWebSocketHandshake: with a credential, only what is one beyond doubt.
func TestWebSocketHandshake(t *testing.T) {
	good := []string{"GET /socket HTTP/1.1", "Host: example.com", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	for name, tt := range map[string]struct {
		line   int
		text   string
		status int
	}{
		"good":             {0, good[0], 101},
		"another method":   {0, "POST /socket HTTP/1.1", 400},
		"another protocol": {3, "Upgrade: h3", 400},
		"two protocols":    {3, "Upgrade: websocket, h3", 400},
		"twice":            {3, "Upgrade: websocket\r\nUpgrade: websocket", 400},
		"no connection":    {2, "Connection: keep-alive", 400},
		"old version":      {4, "Sec-WebSocket-Version: 8", 400},
		"short key":        {5, "Sec-WebSocket-Key: dGhl", 400},
		"no key":           {5, "X: y", 400},
		"two keys":         {5, good[5] + "\r\n" + good[5], 400},
		"a body":           {5, good[5] + "\r\nContent-Length: 1", 400},
	} {
		t.Run(name, func(t *testing.T) {
			reached := false
			w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
				reached = true
				echoSocket(t)(rw, r)
			})
			w.plan = socketPlan()
			lines := append([]string(nil), good...)
			lines[tt.line] = tt.text
			c, err := net.Dial("tcp", w.address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprint(c, strings.Join(lines, "\r\n")+"\r\n\r\n")
			response, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != tt.status || reached != (tt.status == 101) {
				t.Errorf("status %d, want %d; reached the upstream: %v", response.StatusCode, tt.status, reached)
			}
		})
	}
}

// TestUpgradeNotAccepted: an upstream that says 101 without having understood
// the handshake gets no more than that.
func TestUpgradeNotAccepted(t *testing.T) {
	for name, answer := range map[string]string{
		"another protocol": "Connection: Upgrade\r\nUpgrade: other\r\n\r\n",
		"no accept":        "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"wrong accept":     "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
				c, _, err := http.NewResponseController(rw).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\n"+answer)
				io.Copy(io.Discard, c)
			})
			w.plan = socketPlan()
			response := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")[0]
			if got := code(t, response); response.StatusCode != http.StatusBadGateway || got != "upgrade_failed" {
				t.Errorf("status %d, code %s", response.StatusCode, got)
			}
		})
	}
}

// TestWebSocketEnds when its request would be decided otherwise, and not before.
func TestWebSocketEnds(t *testing.T) {
	w := newWorld(t, echoSocket(t))
	w.plan = socketPlan()
	var revoked atomic.Bool
	w.plan.Holds = func() bool { return !revoked.Load() }
	c, _ := w.dial(t)
	echo := func() error {
		if err := c.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
			return err
		}
		_, _, err := c.Read(t.Context())
		return err
	}
	w.Keep(map[string]uint64{"c": 2})
	if err := echo(); err != nil {
		t.Fatalf("after a rotation: %v", err)
	}
	revoked.Store(true)
	w.Keep()
	if err := echo(); err == nil {
		t.Error("the WebSocket goes on")
	}
	if x := w.last(t); x.Reason != "cut_off" {
		t.Errorf("record %+v", x)
	}
}

// TestHalfClose: who has no more to say can go on listening.
func TestHalfClose(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
		c, buffered, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		all, _ := io.ReadAll(buffered)
		time.Sleep(300 * time.Millisecond) // longer than it takes to see that a client left
		fmt.Fprintf(c, "you said %q", all)
	})
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly ")
	r := bufio.NewReader(c)
	response, err := http.ReadResponse(r, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(response, err)
	}
	fmt.Fprint(c, "late")
	c.(*net.TCPConn).CloseWrite()
	if all, err := io.ReadAll(r); err != nil || string(all) != `you said "early late"` {
		t.Errorf("read %q, %v", all, err)
	}
}

// TestShutdownEndsWebSockets, at once: nobody knows when they would end.
func TestShutdownEndsWebSockets(t *testing.T) {
	w := newWorld(t, echoSocket(t))
	w.plan = socketPlan()
	c, _ := w.dial(t)
	bound, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if !w.stop(bound) {
		t.Error("not ended after 2 s")
	}
	if _, _, err := c.Read(t.Context()); err == nil {
		t.Error("the WebSocket goes on")
	}
}

// TestExtendedConnect runs its other half with the setting that net/http reads
// when the process begins.
func TestExtendedConnect(t *testing.T) {
	if !strings.Contains(os.Getenv("GODEBUG"), "http2xconnect=1") {
		cmd := exec.Command(os.Args[0], "-test.run=^TestExtendedConnect$", "-test.v")
		cmd.Env = append(os.Environ(), "GODEBUG=http2xconnect=1")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestExtendedConnect")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	upstream := echoSocket(t)
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/socket" {
			fmt.Fprint(rw, "no socket here")
			return
		}
		upstream(rw, r)
	}, overHTTP2)
	w.plan = socketPlan()

	t.Run("echo", func(t *testing.T) {
		stream, response := w.connect(t, "/socket", "websocket")
		if response.StatusCode != http.StatusOK || response.Header.Get("X-Echo") != "******" || response.Header.Get("Sec-Websocket-Accept") != "" {
			t.Fatalf("status %d, header %v", response.StatusCode, response.Header)
		}
		// A masked text frame, "Hello" (RFC 6455 section 5.7), and a close.
		io.WriteString(stream, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")
		frame := make([]byte, 7)
		if _, err := io.ReadFull(response.Body, frame); err != nil || string(frame) != "\x81\x05Hello" {
			t.Fatalf("read %q, %v", frame, err)
		}
		io.WriteString(stream, "\x88\x82\x00\x00\x00\x00\x03\xe8")
		if rest, err := io.ReadAll(response.Body); err != nil || string(rest) != "\x88\x02\x03\xe8" {
			t.Errorf("read %q, %v at the end", rest, err)
		}
		if x := w.last(t); x.Method != "GET" || x.Protocol != "HTTP/2.0" || x.RequestBytes != 19 || x.ResponseBytes != 11 || x.Reason != "" {
			t.Errorf("record %+v", x)
		}
	})
	t.Run("searched", func(t *testing.T) {
		w.plan.Messages = searched
		stream, response := w.connect(t, "/socket", "websocket")
		io.WriteString(stream, "\x01\x83\x00\x00\x00\x00can\x80\x83\x00\x00\x00\x00ary\x88\x82\x00\x00\x00\x00\x03\xe8")
		if all, err := io.ReadAll(response.Body); err != nil || string(all) != "\x81\x06******\x88\x02\x03\xe8" {
			t.Errorf("read %q, %v", all, err)
		}
		w.last(t)
		stream, response = w.connect(t, "/socket", "websocket")
		io.WriteString(stream, "\x81\x89\x00\x00\x00\x00vault:key")
		if all, err := io.ReadAll(response.Body); err == nil || string(all) != "\x88\x02\x03\xf0" {
			t.Errorf("after a placeholder %q, %v", all, err)
		}
		w.last(t)
		w.plan.Messages = nil
	})
	t.Run("ends", func(t *testing.T) {
		var revoked atomic.Bool
		w.plan.Holds = func() bool { return !revoked.Load() }
		_, response := w.connect(t, "/socket", "websocket")
		revoked.Store(true)
		w.Review()
		if _, err := io.ReadAll(response.Body); err == nil {
			t.Error("the stream ended as if all were well")
		}
		w.last(t)
		w.plan.Holds = nil
	})
	for name, tt := range map[string]struct {
		path, protocol string
		status         int
	}{
		"another protocol": {"/socket", "connect-udp", 501},
		"not upgraded":     {"/", "websocket", 502},
	} {
		t.Run(name, func(t *testing.T) {
			_, response := w.connect(t, tt.path, tt.protocol)
			if response.StatusCode != tt.status {
				t.Errorf("status %d, want %d", response.StatusCode, tt.status)
			}
			w.last(t)
		})
	}
	t.Run("not allowed", func(t *testing.T) {
		w.plan.Upgrade = false
		_, response := w.connect(t, "/socket", "websocket")
		if text, _ := io.ReadAll(response.Body); response.StatusCode != 501 || !bytes.Contains(text, []byte("--allow-websocket")) {
			t.Errorf("status %d: %s", response.StatusCode, text)
		}
	})
}

// connect sends an extended CONNECT (RFC 8441).
func (w *world) connect(t *testing.T, path, protocol string) (io.Writer, *http.Response) {
	t.Helper()
	client := w.http2(t)
	reader, stream := io.Pipe()
	t.Cleanup(func() { stream.CloseWithError(errors.New("the test is over")) })
	request, err := http.NewRequestWithContext(t.Context(), http.MethodConnect, "http://example.com"+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	request.Header[":protocol"] = []string{protocol}
	request.Header["Sec-Websocket-Version"] = []string{"13"}
	response, err := client.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return stream, response
}

// http2 is a client that speaks HTTP/2 to the Server, without TLS.
func (w *world) http2(t *testing.T) http.RoundTripper {
	transport := &http2.Transport{
		AllowHTTP: true,
		DialTLSContext: func(ctx context.Context, _, _ string, _ *tls.Config) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", w.address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// overHTTP2 has the world's clients speak HTTP/2.
func overHTTP2(c *proxy.Config) {
	c.Facts = func(net.Conn) proxy.Facts {
		return proxy.Facts{SNI: "example.com", Port: 443, TLS: true, HTTP2: true}
	}
}
