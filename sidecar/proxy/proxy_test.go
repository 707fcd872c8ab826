package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"sallyport/sidecar/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHostMustBeTheConnections(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) })
	for host, want := range map[string]int{
		"example.com":      200,
		"EXAMPLE.com.:443": 200,
		"evil.test":        421,
		"example.com:8443": 421,
		"a,b":              400,
		"127.0.0.1":        400,
		"example.com:":     200,
		"exa_mple.com":     400,
		"[::1]:443":        400,
	} {
		response := w.raw(t, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")[0]
		if response.StatusCode != want {
			t.Errorf("Host %q: status %d, want %d", host, response.StatusCode, want)
		}
	}
	// The second request of a connection is not covered by the first.
	both := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
	if both[0].StatusCode != 200 || both[1].StatusCode != 421 || code(t, both[1]) != "misdirected" {
		t.Errorf("statuses %d, %d", both[0].StatusCode, both[1].StatusCode)
	}
}

func TestRequestPassesAsItWasSent(t *testing.T) {
	got := make(chan *http.Request, 1)
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) { got <- r })
	w.plan.Request = func(r *http.Request) error {
		r.Header.Set("Authorization", "Bearer injected")
		return nil
	}
	w.raw(t, "GET /a%2Fb;x=1//c?x=1;y=2&%zz&&q= HTTP/1.1\r\nHost: example.com\r\nConnection: authorization, x-hop\r\nX-Hop: 1\r\nX-Forwarded-For: 192.0.2.9\r\nX-Kept: 1\r\n\r\n")
	r := <-got
	if r.RequestURI != "/a%2Fb;x=1//c?x=1;y=2&%zz&&q=" {
		t.Errorf("target %q", r.RequestURI)
	}
	if r.Header.Get("Authorization") != "Bearer injected" {
		t.Error("a Connection field took the injected header away")
	}
	if r.Header.Get("X-Hop") != "" || r.Header.Get("X-Kept") != "1" || r.Header.Get("X-Forwarded-For") != "192.0.2.9" {
		t.Errorf("header %v", r.Header)
	}
	if _, found := r.Header["User-Agent"]; found {
		t.Error("a User-Agent was made up")
	}
	if _, found := r.Header["Accept-Encoding"]; found {
		t.Error("an Accept-Encoding was made up")
	}
	if x := w.last(t); x.Path != "/a%2Fb;x=1//c" || strings.Contains(fmt.Sprintf("%+v", x), "zz") {
		t.Errorf("record %+v", x)
	}
}

func TestContentTypeIsNotMadeUp(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		fmt.Fprint(w, "text")
	})
	response := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")[0]
	if got, found := response.Header["Content-Type"]; found {
		t.Errorf("Content-Type %q", got)
	}
}

func TestStreamsBothWays(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Trailer", "X-Sum")
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "data: %s\n\n", lines.Text())
			http.NewResponseController(w).Flush()
		}
		w.Header().Set("X-Sum", "done")
	})
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	events := bufio.NewReader(response.Body)
	for i, word := range []string{"one", "two", "three"} {
		if i > 0 { // each is sent only when the one before has come back
			fmt.Fprintf(c, "%x\r\n%s\n\r\n", len(word)+1, word)
		}
		if line, err := events.ReadString('\n'); err != nil || line != "data: "+word+"\n" {
			t.Fatalf("event %q, %v", line, err)
		}
		events.ReadString('\n')
	}
	fmt.Fprint(c, "0\r\n\r\n")
	if _, err := io.ReadAll(events); err != nil {
		t.Fatal(err)
	}
	if response.Trailer.Get("X-Sum") != "done" {
		t.Errorf("trailers %v", response.Trailer)
	}
	if x := w.last(t); x.RequestBytes != 14 || x.ResponseBytes == 0 || x.Status != 200 {
		t.Errorf("record %+v", x)
	}
}

func TestInterimAnswerIsEdited(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "canary")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Link", "final")
		w.WriteHeader(http.StatusOK)
	})
	w.plan.Interim = func(h http.Header) { h.Set("Link", "edited") }
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(all); !strings.HasPrefix(s, "HTTP/1.1 103") || !strings.Contains(s, "edited") || strings.Contains(s, "canary") || !strings.Contains(s, "final") {
		t.Errorf("answer:\n%s", s)
	}
}

func TestCredentialIsNotEchoedByMethodOrUpgrade(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("the request reached the upstream") })
	w.plan = proxy.Plan{Decision: proxy.Inject, Credential: "c", Version: 1}
	for _, request := range []string{
		"TRACE / HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"track / HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		response := w.raw(t, request)[0]
		code(t, response)
		if x := w.last(t); x.Decision != proxy.Refuse || x.Status < 400 {
			t.Errorf("%q: record %+v", request, x)
		}
	}
}

func TestTargetIsAPlainPath(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("the request reached the upstream") })
	for _, target := range []string{
		"x:http://evil.test/steal", "http://evil.test/", "https://example.com/", "x:evil", "evil", "*", "", "/a b", "/a?b c HTTP/1.0", "/a#b", "/a?b#c", "/a\\b", "/é", "/a?\x00",
	} {
		// HTTP/2 gives the handler any text as the target.
		r := httptest.NewRequest("GET", "/", nil)
		r.RequestURI, r.ProtoMajor, r.Host = target, 2, "example.com"
		if u, err := url.ParseRequestURI(target); err == nil {
			r.URL = u
		}
		r = r.WithContext(proxy.WithFacts(r.Context(), proxy.Facts{SNI: "example.com", Port: 443, TLS: true, HTTP2: true}))
		recorder := httptest.NewRecorder()
		w.ServeHTTP(recorder, r)
		if recorder.Code != 400 || recorder.Header().Get("Sallyport-Error") != "bad_target" {
			t.Errorf("target %q: status %d, %s", target, recorder.Code, recorder.Header().Get("Sallyport-Error"))
		}
		if x := w.last(t); x.Decision != proxy.Refuse || x.Host != "example.com" {
			t.Errorf("target %q: record %+v", target, x)
		}
	}
}

func TestPathKeepsItsSpelling(t *testing.T) {
	got := make(chan string, 1)
	planned := ""
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.RequestURI }, func(c *proxy.Config) {
		plan := c.Plan
		c.Plan = func(ctx context.Context, x *proxy.Exchange, r *http.Request) (*proxy.Plan, error) {
			planned = r.URL.EscapedPath()
			return plan(ctx, x, r)
		}
	})
	for sent, want := range map[string]string{
		"/projects/group%2Fproj/x{y}": "/projects/group%2Fproj/x%7By%7D",
		"/a%2fb|c^d":                  "/a%2fb%7Cc%5Ed",
		"/%7e/%41;v=1/~?{q}":          "/%7e/%41;v=1/~?{q}",
	} {
		w.raw(t, "GET "+sent+" HTTP/1.1\r\nHost: example.com\r\n\r\n")
		if path := <-got; path != want {
			t.Errorf("%s arrived as %s, want %s", sent, path, want)
		}
		want, _, _ = strings.Cut(want, "?")
		if x := w.last(t); x.Path != want || planned != want {
			t.Errorf("%s was decided about as %s and recorded as %s, and sent as %s", sent, planned, x.Path, want)
		}
	}
}

func TestOfferOfH2CIsIgnored(t *testing.T) {
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" || r.Header.Get("Http2-Settings") != "" {
			t.Errorf("header %v", r.Header)
		}
	})
	w.plan = proxy.Plan{Decision: proxy.Inject, Credential: "c", Version: 1}
	response := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")[0]
	if response.StatusCode != 200 {
		t.Errorf("status %d", response.StatusCode)
	}
}

func TestClientThatLeavesEndsTheUpstreamRequest(t *testing.T) {
	started, ended := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
		close(ended)
	})
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
	<-started
	c.Close()
	<-ended
	if x := w.last(t); x.Reason != "client_gone" {
		t.Errorf("record %+v", x)
	}
}
