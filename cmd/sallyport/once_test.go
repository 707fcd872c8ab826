package main

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// cutter stands before a control plane, and cuts the connection where an answer to a POST
// should come, after the control plane has done what was asked.
type cutter struct {
	*httptest.Server
	times int // that one request is cut

	mu  sync.Mutex
	cut map[string]int // by idempotency key
}

func newCutter(t *testing.T, server string, times int) *cutter {
	t.Helper()
	c := &cutter{times: times, cut: map[string]int{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, err := http.NewRequestWithContext(r.Context(), r.Method, server+r.URL.RequestURI(), r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		request.Header, request.ContentLength = r.Header.Clone(), r.ContentLength
		answer, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Errorf("the control plane: %v", err)
			return
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Error(err)
		}
		if c.cuts(r) {
			panic(http.ErrAbortHandler)
		}
		maps.Copy(w.Header(), answer.Header)
		w.WriteHeader(answer.StatusCode)
		io.Copy(w, bytes.NewReader(body))
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *cutter) cuts(r *http.Request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	c.cut[key]++
	return r.Method == http.MethodPost && c.cut[key] <= c.times
}

// TestLostAnswers: every answer to what makes something is lost once, after it was made.
// Each command ends well, and each thing is there once.
func TestLostAnswers(t *testing.T) {
	server, data := startControl(t)
	c := newCutter(t, server, 1)
	env := map[string]string{"HOME": t.TempDir(), "SALLYPORT_SERVER": c.URL, "SALLYPORT_TOKEN": contents(t, filepath.Join(data, "admin-token"))}
	for _, args := range [][]string{
		{"vault", "create", "v"},
		{"credential", "add", "--vault", "v", "--name", "c", "--service", "stripe", "--secret-file", "-"},
		{"credential", "rotate", "--vault", "v", "c", "--secret-file", "-"},
		{"agent", "create", "a"},
		{"sandbox", "create", "--agent", "a"},
		{"token", "create", "t", "--role", "viewer"},
		{"team", "create", "other"},
	} {
		if o := call(t, env, "sk_live_0123456789abcdef", args...); o.status != 0 {
			t.Errorf("%q: %+v", args, o)
		}
	}
	delete(c.cut, "") // those that make nothing
	if len(c.cut) != 7 {
		t.Errorf("%d requests had a name", len(c.cut))
	}
	for key, times := range c.cut {
		if times != 2 {
			t.Errorf("the request %s was sent %d times", key, times)
		}
	}
	o := call(t, env, "", "audit", "list", "-o", "json")
	var events []struct{ Kind string }
	if err := json.Unmarshal([]byte(o.stdout), &events); err != nil {
		t.Fatalf("%+v: %v", o, err)
	}
	kinds := map[string]int{}
	for _, e := range events {
		kinds[e.Kind]++
	}
	for _, kind := range []string{"vault.create", "credential.create", "credential.rotate", "agent.create", "sandbox.create", "token.create"} {
		if kinds[kind] != 1 {
			t.Errorf("%d events %s: %v", kinds[kind], kind, kinds)
		}
	}

	// One that is lost again is reported, and was done.
	lost := newCutter(t, server, 2)
	env["SALLYPORT_SERVER"] = lost.URL
	if o := call(t, env, "", "vault", "create", "w"); o.status != 1 || !strings.Contains(o.stderr, "may have done what was asked") {
		t.Errorf("lost twice: %+v", o)
	}
	if o := call(t, env, "", "vault", "list"); o.status != 0 || !strings.Contains(o.stdout, "w") {
		t.Errorf("%+v", o)
	}
}
