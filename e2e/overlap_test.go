package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"sallyport/control"
	"sallyport/e2e"
)

const overlapHost = "overlap.example.test"

// changing is a service that takes one key at a time, and echoes both.
type changing struct {
	mu   sync.Mutex
	good string
	seen []string
}

func (s *changing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.seen = append(s.seen, fmt.Sprintf("%s %s%d %s", r.Method, r.URL.Path, len(body), key))
	w.Header().Set("X-Seen", oldKey+" "+newKey)
	if key != s.good || r.URL.Path == "/always" {
		w.WriteHeader(http.StatusUnauthorized)
	}
	fmt.Fprintf(w, "echo %s %s", oldKey, newKey)
}

// take makes another key the good one, and forgets what it has seen.
func (s *changing) take(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.good, s.seen = key, nil
}

func (s *changing) arrived() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := strings.NewReplacer(oldKey, "old", newKey, "new").Replace(strings.Join(s.seen, ", "))
	s.seen = nil
	return all
}

// TestOverlap: after a rotation with an overlap a request is sent once more with the old
// key where the service does not know the new one yet, and only then; and not at all
// once that has ended.
func TestOverlap(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	service := &changing{good: oldKey}
	w.OriginServer(overlapHost, service, "h2", "http/1.1")
	w.Pinned("overlap", oldKey, "--host", overlapHost, "--inject", "bearer", "--mint", "strip POST /made header:X-New")
	agent := w.Start("overlap", "bash", "-c", `while read -r line; do eval "$line" 2>&1 | tr '\n' ' '; echo; done`)
	overlapping := false
	ask := func(args string) string {
		t.Helper()
		got := agent.Ask("curl -sS -i " + args)
		if overlapping && (strings.Contains(got, oldKey) || strings.Contains(got, newKey)) {
			t.Errorf("%s shows a key: %s", args, got)
		}
		return got
	}
	rotate := func(key string, flags ...string) {
		t.Helper()
		w.CLIReading(key, append([]string{"credential", "rotate", "--vault", "overlap", "overlap", "--secret-file", "-", "--wait"}, flags...)...)
	}
	url := "https://" + overlapHost
	if got := ask(url + "/first"); !strings.Contains(got, " 200 ") {
		t.Fatal(got)
	}
	service.arrived()

	rotate(newKey, "--overlap", "10m")
	overlapping = true
	if got := w.CLI("credential", "show", "--vault", "overlap", "overlap"); !strings.Contains(got, "version 1, until ") {
		t.Errorf("it is shown as %s", got)
	}
	for _, tt := range []struct{ args, status, arrived string }{
		{url + "/a", "200", "GET /a0 new, GET /a0 old"},
		{"--http1.1 " + url + "/a", "200", "GET /a0 new, GET /a0 old"},
		{"-X DELETE " + url + "/a", "200", "DELETE /a0 new, DELETE /a0 old"},
		{"-X POST " + url + "/a", "401", "POST /a0 new"},
		{"-X POST " + url + "/made", "401", "POST /made0 new"},
		{"-X PUT -d x " + url + "/a", "401", "PUT /a1 new"},
		{"-H 'Authorization: Bearer mine' " + url + "/a", "200", "GET /a0 new, GET /a0 old"},
		{url + "/always", "401", "GET /always0 new, GET /always0 old"},
	} {
		got := ask(tt.args)
		if arrived := service.arrived(); !strings.Contains(got, " "+tt.status+" ") || arrived != tt.arrived {
			t.Errorf("%s: %q arrived, and the answer is %s", tt.args, arrived, got)
		}
	}
	// The budget has each sending; what there is no room for is not sent again.
	w.CLI("credential", "set", "--vault", "overlap", "overlap", "--budget", "3")
	var first string
	w.Eventually("the budget holds", func() bool {
		first = ask(url + "/counted")
		return credentialOf(t, w, "overlap", "overlap").Spent > 0
	})
	service.arrived()
	if second := ask(url + "/counted"); !strings.Contains(first, " 200 ") || !strings.Contains(second, " 401 ") || service.arrived() != "GET /counted0 new" {
		t.Errorf("of a budget of three sendings: %s, then %s", first, second)
	}
	if got := strings.ToLower(ask(url + "/counted")); !strings.Contains(got, "limit_budget") {
		t.Errorf("past the budget: %s", got)
	}
	w.CLI("credential", "set", "--vault", "overlap", "overlap", "--budget", "none")
	w.Eventually("there is no budget", func() bool { return strings.Contains(ask(url+"/a"), " 200 ") })
	service.take(newKey)
	if got := ask(url + "/known"); !strings.Contains(got, " 200 ") || service.arrived() != "GET /known0 new" {
		t.Errorf("with the new key known: %s", got)
	}

	told := func(path string) string {
		var all []string
		for _, e := range events(t, w) {
			if e.Kind == "request" && e.Path == path {
				all = append(all, fmt.Sprintf("v%d %d %s", e.Version, e.Status, e.Reason))
			}
		}
		return strings.Join(all, ", ")
	}
	w.Eventually("each sending is an event with its version", func() bool { return told("/always") == "v1 401 , v2 401 fell_back" })
	service.take(oldKey)
	overlapping = false
	w.CLI("credential", "retire", "--vault", "overlap", "overlap")
	w.Eventually("the end holds", func() bool {
		service.arrived()
		return strings.Contains(ask(url+"/ended"), " 401 ") && service.arrived() == "GET /ended0 new"
	})
	if again := w.TryCLI("", "credential", "retire", "--vault", "overlap", "overlap"); again.Status == 0 {
		t.Error("it ended twice")
	}

	// By time: the control plane and the sidecar know when, and nobody tells them.
	rotate(oldKey, "--overlap", "3s")
	service.take(newKey)
	if got := ask(url + "/soon"); !strings.Contains(got, " 200 ") {
		t.Errorf("within the time: %s", got)
	}
	w.Eventually("the time is over", func() bool {
		service.arrived()
		return strings.Contains(ask(url+"/late"), " 401 ") && service.arrived() == "GET /late0 old"
	})
	w.Eventually("it says so", func() bool { return credentialOf(t, w, "overlap", "overlap").Overlap == nil })

	// By the next rotation, of what an overlap is not for, and by bad words.
	rotate(newKey, "--overlap", "10m")
	rotate(newKey + "-newer")
	service.take(oldKey)
	if got := ask(url + "/next"); !strings.Contains(got, " 401 ") {
		t.Errorf("after the next rotation: %s", got)
	}
	for _, wrong := range []string{"25h", "-1m", "1ms"} {
		if r := w.TryCLI(newKey, "credential", "rotate", "--vault", "overlap", "overlap", "--secret-file", "-", "--overlap="+wrong); r.Status == 0 {
			t.Errorf("an overlap of %s", wrong)
		}
	}
}

func credentialOf(t *testing.T, w *e2e.World, vault, name string) (c control.Credential) {
	t.Helper()
	if err := json.Unmarshal([]byte(w.CLI("-o", "json", "credential", "show", "--vault", vault, name)), &c); err != nil {
		t.Fatal(err)
	}
	return c
}
