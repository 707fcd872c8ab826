package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"sallyport/sidecar/proxy"
)

// TestDecidedAnew: a request whose credential is rotated when it is about to be sent goes
// out with the new version, as its client sent it, unless some of its body is gone.
func TestDecidedAnew(t *testing.T) {
	for name, tt := range map[string]struct {
		request string
		stands  error  // of the first plan
		take    bool   // the first plan reads of the body
		want    string // what arrives, "" for nothing
		plans   int
	}{
		"refused by its plan": {"GET / HTTP/1.1\r\nHost: example.com\r\nX-Key: mine\r\n\r\n", proxy.ErrChanged, false, "GET mine 2 ", 2},
		"with a body":         {"POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 4\r\n\r\nbody", proxy.ErrChanged, false, "POST  2 body", 2},
		"a body that is gone": {"POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 4\r\n\r\nbody", proxy.ErrChanged, true, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			arrived := ""
			plans := 0
			released := 0
			w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) {
				body := make([]byte, 10)
				n, _ := r.Body.Read(body)
				arrived += fmt.Sprint(r.Method, " ", r.Header.Get("Had"), " ", r.Header.Get("X-Key"), " ", string(body[:n]))
			}, func(c *proxy.Config) {
				c.Plan = func(_ context.Context, _ *proxy.Exchange, r *http.Request) (*proxy.Plan, error) {
					plans++
					version, had := plans, r.Header.Get("X-Key")
					return &proxy.Plan{
						Decision: proxy.Inject, Credential: "c", Version: uint64(version),
						Request: func(out *http.Request) error {
							out.Header.Set("X-Key", fmt.Sprint(version))
							out.Header.Set("Had", had)
							if tt.take {
								_, _ = out.Body.Read(make([]byte, 2))
							}
							return nil
						},
						Stands: func() error {
							if version > 1 {
								return nil
							}
							return tt.stands
						},
						Release: func(*proxy.Exchange) { released++ },
					}, nil
				}
			})
			response := w.raw(t, tt.request)[0]
			if ok := response.StatusCode == http.StatusOK; ok != (tt.want != "") || !ok && (response.StatusCode != 503 || response.Header.Get("Retry-After") == "") {
				t.Errorf("it is answered %s %s", response.Status, response.Header.Get("Sallyport-Error"))
			}
			w.last(t)
			if arrived != tt.want || plans != tt.plans || released != plans {
				t.Errorf("after %d plans, of which %d were released, %q arrived", plans, released, arrived)
			}
		})
	}
}

// TestDecidedAnewWhereNoConnectionIsLeft: a request whose kept connection is found dead,
// when its credential was rotated and no other may be made for it, goes out by the new version.
func TestDecidedAnewWhereNoConnectionIsLeft(t *testing.T) {
	var w *world
	arrived, version := 0, uint64(1)
	w = newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
		if arrived++; arrived != 2 {
			return
		}
		version = 2
		w.Keep(map[string]uint64{"c": version})
		c, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		c.Close()
	}, func(c *proxy.Config) {
		c.Plan = func(context.Context, *proxy.Exchange, *http.Request) (*proxy.Plan, error) {
			return &proxy.Plan{Decision: proxy.Inject, Credential: "c", Version: version}, nil
		}
	})
	for range 2 {
		if r := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")[0]; r.StatusCode != http.StatusOK {
			t.Fatalf("it is answered %s %s", r.Status, r.Header.Get("Sallyport-Error"))
		}
	}
	w.last(t)
	if x := w.last(t); arrived != 3 || x.Version != 2 {
		t.Errorf("%d arrived, the last with version %d", arrived, x.Version)
	}
}

// TestDecidedAnewAsItCame: whatever a plan does to a request that is not sent, the next one
// has it as its client sent it.
func TestDecidedAnewAsItCame(t *testing.T) {
	arrived := make(chan string, 1)
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		arrived <- fmt.Sprint(r.URL, " ", r.Header["X-Word"], " ", string(body), " ", r.Trailer.Get("X-End"), " ", err)
	}, func(c *proxy.Config) {
		facts, plans := c.Facts, 0
		c.Facts = func(conn net.Conn) proxy.Facts {
			f := facts(conn)
			f.HTTP2 = true
			return f
		}
		c.Plan = func(context.Context, *proxy.Exchange, *http.Request) (*proxy.Plan, error) {
			if plans++; plans > 1 {
				return &proxy.Plan{Decision: proxy.Inspect}, nil
			}
			return &proxy.Plan{
				Decision: proxy.Inspect,
				Request: func(out *http.Request) error {
					out.Header["X-Word"][0] = "****"
					delete(out.Trailer, "X-End")
					out.URL.RawQuery, out.Body, out.ContentLength = "", http.NoBody, 0
					return nil
				},
				Stands: func() error { return proxy.ErrChanged },
			}, nil
		}
	})
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+w.address+"/path?query", io.MultiReader(strings.NewReader("body")))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "example.com"
	request.Header["X-Word"] = []string{"one", "two"}
	request.Trailer = http.Header{"X-End": {"end"}}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("it is answered %s %s", response.Status, response.Header.Get("Sallyport-Error"))
	}
	if got, want := <-arrived, "/path?query [one two] body end <nil>"; got != want {
		t.Errorf("%q arrived, want %q", got, want)
	}
}

// TestAdmitted: a request by a version that has just begun to be served goes out, though
// the connections of the one before are not dropped yet. One of no other version does.
func TestAdmitted(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) {})
	w.Keep(map[string]uint64{"c": 1})
	w.Admit(map[string]uint64{"c": 2}, map[string]uint64{"d": 1})
	for version, want := range map[uint64]int{1: 200, 2: 200, 3: 503} {
		w.plan = proxy.Plan{Decision: proxy.Inject, Credential: "c", Version: version}
		if r := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")[0]; r.StatusCode != want {
			t.Errorf("version %d is answered %s %s", version, r.Status, r.Header.Get("Sallyport-Error"))
		}
	}
	w.Keep(map[string]uint64{"c": 2})
	w.plan = proxy.Plan{Decision: proxy.Inject, Credential: "c", Version: 1}
	if r := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")[0]; r.StatusCode != 503 {
		t.Errorf("the version before is answered %s", r.Status)
	}
}
