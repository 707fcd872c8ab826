package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/sidecar/proxy"
)

// speaksHTTP2 has the client of a world speak HTTP/2.
func speaksHTTP2(c *proxy.Config) {
	c.Facts = func(net.Conn) proxy.Facts { return proxy.Facts{SNI: "example.com", Port: 443, TLS: true, HTTP2: true} }
}

func http2Client(w *world) *http.Transport {
	transport := &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", w.address)
	}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	return transport
}

// TestAnswerToAnUnfinishedRequest has clients whose half stays open and silent:
// the upstream answers, or breaks off, all the same.
func TestAnswerToAnUnfinishedRequest(t *testing.T) {
	for name, end := range map[string]func(http.ResponseWriter){
		"answers": func(w http.ResponseWriter) { io.WriteString(w, "answer") },
		"breaks off": func(w http.ResponseWriter) {
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				c.Close() // in HTTP/1 a panic waits for the body
			}
			panic(http.ErrAbortHandler)
		},
	} {
		upstream := func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).EnableFullDuplex() // HTTP/2 has it always
			w.Header().Set("Trailer", "Grpc-Status")
			io.ReadFull(r.Body, make([]byte, 5))
			end(w)
			w.Header().Set("Grpc-Status", "9")
		}
		want := map[string]int{"answers": 200, "breaks off": 502}[name]
		t.Run(name+", HTTP/2", func(t *testing.T) {
			w := newWorld(t, upstream, speaksHTTP2)
			transport := http2Client(w)
			defer transport.CloseIdleConnections()
			body, feed := io.Pipe()
			defer feed.Close()
			go feed.Write([]byte("hello"))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, "POST", "http://example.com/", body)
			if err != nil {
				t.Fatal(err)
			}
			response, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != want {
				t.Errorf("status %d, %q, %v", response.StatusCode, text, err)
			}
			if want == 200 && response.Trailer.Get("Grpc-Status") != "9" {
				t.Errorf("trailers %v", response.Trailer)
			}
		})
		t.Run(name+", HTTP/1.1", func(t *testing.T) {
			w := newWorld(t, upstream)
			c, err := net.Dial("tcp", w.address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
			response, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != want {
				t.Errorf("status %d, %q, %v", response.StatusCode, text, err)
			}
			w.last(t)
		})
	}
}

// TestHintsToOneWhoLeaves has an upstream of HTTP/2 that never stops to give hints
// while clients leave.
func TestHintsToOneWhoLeaves(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		for i := 0; r.Context().Err() == nil; i++ {
			w.Header().Set("Link", fmt.Sprint(i))
			w.WriteHeader(http.StatusEarlyHints)
		}
	}, speaksHTTP2)
	var asking sync.WaitGroup
	for i := range 4 {
		asking.Go(func() {
			transport := http2Client(w)
			defer transport.CloseIdleConnections()
			for n := range 10 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(5+i+n)*time.Millisecond)
				if r, err := http.NewRequestWithContext(ctx, "GET", "http://example.com/", nil); err != nil {
					t.Error(err)
				} else if response, err := transport.RoundTrip(r); err == nil {
					response.Body.Close()
				}
				cancel()
			}
		})
	}
	asking.Wait()
}

// TestRefusalOfAnExpectationIsWhole has an upstream that does not want the body
// and takes its time to say why.
func TestRefusalOfAnExpectationIsWhole(t *testing.T) {
	w, done := rawUpstream(t, func(c net.Conn, _ int) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 20\r\n\r\n0123456789")
		time.Sleep(200 * time.Millisecond)
		io.WriteString(c, "0123456789")
		io.Copy(io.Discard, c)
	})
	defer done()
	response := w.raw(t, "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")[0]
	if body, _ := io.ReadAll(response.Body); response.StatusCode != 401 || len(body) != 20 {
		t.Errorf("status %d, body %q", response.StatusCode, body)
	}
}

// TestLongUpload takes longer than an upstream may take to answer.
func TestLongUpload(t *testing.T) {
	w, done := rawUpstream(t, func(c net.Conn, _ int) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		io.Copy(io.Discard, r.Body)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
	})
	defer done()
	w.SetUpstreamBounds(200*time.Millisecond, time.Second, 2)
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\n")
	for range 5 {
		time.Sleep(100 * time.Millisecond)
		io.WriteString(c, "x")
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || response.StatusCode != 200 {
		t.Errorf("%v, %v", response, err)
	}
}

// TestFramingLookalikesInHTTP2 are those that CGI would take for what frames a
// message.
func TestFramingLookalikesInHTTP2(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("the request reached the upstream") }, speaksHTTP2)
	for _, name := range []string{"content_length", "transfer_encoding"} {
		f := w.frames(t)
		id := f.request(name, "5")
		if got, _ := f.answer(id); got != "400" {
			t.Errorf("%s: status %s", name, got)
		}
	}
}

// TestNamesThatLeadNowhereLeaveNothing dials many and keeps none.
func TestNamesThatLeadNowhereLeaveNothing(t *testing.T) {
	var host atomic.Value
	w := newWorld(t, nil, func(c *proxy.Config) {
		c.Facts = func(net.Conn) proxy.Facts { return proxy.Facts{SNI: host.Load().(string), Port: 443, TLS: true} }
		c.Dial = func(context.Context, string, uint16) (net.Conn, error) { return nil, io.ErrUnexpectedEOF }
	})
	for i := range 20 {
		name := fmt.Sprintf("h%d.example.com", i)
		host.Store(name)
		w.raw(t, strings.Replace(plainGet, "example.com", name, 1))
	}
	if n := w.UpstreamPlaces(); n != 0 {
		t.Errorf("%d places are kept", n)
	}
}
