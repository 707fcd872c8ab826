package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sallyport/sidecar/proxy"
)

// frames is a connection on which a test speaks HTTP/2 frame by frame.
type frames struct {
	*http2.Framer
	t       *testing.T
	encoded bytes.Buffer
	encoder *hpack.Encoder
	next    uint32 // stream
}

func (w *world) frames(t *testing.T) *frames {
	t.Helper()
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	f := &frames{Framer: http2.NewFramer(c, c), t: t, next: 1}
	f.encoder = hpack.NewEncoder(&f.encoded)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	io.WriteString(c, http2.ClientPreface)
	f.must(f.WriteSettings())
	return f
}

func (f *frames) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// request sends the head of a GET with fields beside it, and gives its stream.
func (f *frames) request(fields ...string) uint32 {
	f.t.Helper()
	f.encoded.Reset()
	fields = append([]string{":method", "GET", ":scheme", "https", ":authority", "example.com", ":path", "/"}, fields...)
	for i := 0; i < len(fields); i += 2 {
		f.must(f.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	id, block := f.next, f.encoded.Bytes()
	f.next += 2
	first := block[:min(len(block), 16<<10)]
	block = block[len(first):]
	f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: true, EndHeaders: len(block) == 0}))
	for len(block) > 0 {
		piece := block[:min(len(block), 16<<10)]
		block = block[len(piece):]
		f.must(f.WriteContinuation(id, len(block) == 0, piece))
	}
	return id
}

// answer reads until the response to a stream is whole.
func (f *frames) answer(id uint32) (status, body string) {
	f.t.Helper()
	for {
		frame, err := f.ReadFrame()
		f.must(err)
		if frame.Header().StreamID != id {
			continue
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			status = frame.PseudoValue("status")
		case *http2.DataFrame:
			body += string(frame.Data())
		case *http2.RSTStreamFrame:
			return "reset", frame.ErrCode.String()
		}
		if frame.Header().Flags.Has(http2.FlagDataEndStream) {
			return status, body
		}
	}
}

// TestHTTP2Fields: what HTTP/2 forbids, and too much of what it does not, never
// reaches the upstream.
func TestHTTP2Fields(t *testing.T) {
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Good") == "" {
			t.Errorf("reached the upstream: %v", r.Header)
		}
	}, overHTTP2)
	long := strings.Repeat("x", 9000)
	for name, tt := range map[string]struct {
		fields []string
		status string
		says   string
	}{
		"good":              {[]string{"x-good", "1", "te", "trailers"}, "200", ""},
		"connection":        {[]string{"connection", "keep-alive"}, "400", "Connection"},
		"keep-alive":        {[]string{"keep-alive", "1"}, "400", "Keep-Alive"},
		"transfer-encoding": {[]string{"transfer-encoding", "chunked"}, "400", "Transfer-Encoding"},
		"upgrade":           {[]string{"upgrade", "websocket"}, "400", "Upgrade"},
		"te":                {[]string{"te", "gzip"}, "400", "TE"},
		"another host":      {[]string{"host", "evil.test"}, "400", "bad_host"},
		"upper case":        {[]string{"X-Upper", "1"}, "reset", "PROTOCOL_ERROR"},
		"too long":          {[]string{"a", long, "b", long, "c", long, "d", long, "e", long, "f", long, "g", long, "h", long}, "431", "head_too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			f := w.frames(t)
			if status, body := f.answer(f.request(tt.fields...)); status != tt.status || !strings.Contains(body, tt.says) {
				t.Errorf("answered %s %s, want %s with %q", status, body, tt.status, tt.says)
			}
		})
	}
}

// TestGoAwayToClients: when the end is asked for, clients are told, and what is
// under way is finished.
func TestGoAwayToClients(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
		close(began)
		<-finish
		fmt.Fprint(rw, "finished")
	}, overHTTP2)
	f := w.frames(t)
	id := f.request()
	<-began
	stopped := make(chan bool)
	go func() {
		bound, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		stopped <- w.stop(bound)
	}()
	for told := false; !told; {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		_, told = frame.(*http2.GoAwayFrame)
	}
	close(finish)
	if status, body := f.answer(id); status != "200" || body != "finished" {
		t.Errorf("answered %s %q", status, body)
	}
	if !<-stopped {
		t.Error("not ended after 5 s")
	}
}

// TestPriorKnowledge: who speaks HTTP/2 without TLS is spoken for in the same.
func TestPriorKnowledge(t *testing.T) {
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, "%s %s", r.Proto, r.Host)
	}))
	upstream.Config.Protocols = new(http.Protocols)
	upstream.Config.Protocols.SetHTTP1(true)
	upstream.Config.Protocols.SetUnencryptedHTTP2(true)
	upstream.Start()
	defer upstream.Close()
	for want, http2 := range map[string]bool{"HTTP/1.1 example.com": false, "HTTP/2.0 example.com": true} {
		w := newWorld(t, nil, func(c *proxy.Config) {
			c.Facts = func(net.Conn) proxy.Facts { return proxy.Facts{Port: 80, HTTP2: http2} }
			c.Dial = func(ctx context.Context, _ string, _ uint16) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", upstream.Listener.Addr().String())
			}
		})
		if !http2 {
			response := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")[0]
			if body, _ := io.ReadAll(response.Body); string(body) != want {
				t.Errorf("the upstream saw %q, want %q", body, want)
			}
			continue
		}
		f := w.frames(t)
		if status, body := f.answer(f.request()); status != "200" || body != want {
			t.Errorf("status %s, the upstream saw %q, want %q", status, body, want)
		}
	}
}

// TestSentAgain has an upstream refuse each request once, unseen: it is sent
// again if its body was kept.
func TestSentAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		size int
		want int
	}{"no body": {0, 200}, "short": {1000, 200}, "long": {1 << 20, 502}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil, overHTTP2, func(c *proxy.Config) {
				c.Facts = func(net.Conn) proxy.Facts { return proxy.Facts{Port: 80, HTTP2: true} }
				c.Dial = func(context.Context, string, uint16) (net.Conn, error) {
					client, server := net.Pipe()
					go refuseFirst(server)
					return client, nil
				}
			})
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://example.com/", bytes.NewReader(make([]byte, tt.size)))
			if err != nil {
				t.Fatal(err)
			}
			request.GetBody = nil // the client itself must not send it again
			response, err := w.http2(t).RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != tt.want || tt.want == 200 && string(body) != fmt.Sprint(tt.size) {
				t.Errorf("status %d: %s", response.StatusCode, body)
			}
		})
	}
}

// refuseFirst is an upstream that refuses the first stream of a connection when
// all of its request is there, and tells for the second how long its body was.
func refuseFirst(c net.Conn) {
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(c, c)
	out := make(chan func() error, 1000)
	defer close(out)
	go func() {
		for write := range out {
			_ = write() // a client that left ends the reading too
		}
	}()
	out <- func() error { return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 4 << 20}) }
	out <- func() error { return f.WriteWindowUpdate(0, 4<<20) }
	size := 0
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		id := frame.Header().StreamID
		ends := false
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				out <- f.WriteSettingsAck
			}
		case *http2.HeadersFrame:
			size, ends = 0, frame.StreamEnded()
		case *http2.DataFrame:
			size += len(frame.Data())
			ends = frame.StreamEnded()
		}
		switch {
		case ends && id == 1:
			out <- func() error { return f.WriteRSTStream(id, http2.ErrCodeRefusedStream) }
		case ends:
			text := fmt.Sprint(size)
			out <- func() error {
				// 0x88 is ":status: 200" of HPACK's static table.
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x88}, EndHeaders: true})
			}
			out <- func() error { return f.WriteData(id, true, []byte(text)) }
		}
	}
}

// TestMethodInSmallLetters has methods that some servers take for others, which a
// policy forbids. HTTP/1 is refused them by the strict reader.
func TestMethodInSmallLetters(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("the request reached the upstream") })
	for _, method := range []string{"delete", "Delete", "dELETE"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Method, r.ProtoMajor, r.Host = method, 2, "example.com"
		r = r.WithContext(proxy.WithFacts(r.Context(), proxy.Facts{SNI: "example.com", Port: 443, TLS: true, HTTP2: true}))
		recorder := httptest.NewRecorder()
		w.ServeHTTP(recorder, r)
		if recorder.Code != 400 || recorder.Header().Get("Sallyport-Error") != "malformed_request" {
			t.Errorf("%s: status %d, %s", method, recorder.Code, recorder.Header().Get("Sallyport-Error"))
		}
	}
}
