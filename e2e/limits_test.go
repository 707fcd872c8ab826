package e2e_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport/control"
	"sallyport/e2e"
)

const guardedHost = "guarded.example.test"

// guarded starts a service that counts the requests with the credential, which is
// pinned to an agent with limits.
func guarded(t *testing.T, w *e2e.World, limits ...string) (arrived *atomic.Int64) {
	t.Helper()
	arrived = new(atomic.Int64)
	w.OriginServer(guardedHost, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+token {
			arrived.Add(1)
		}
	}), "h2", "http/1.1")
	w.Pinned("guarded", token, append([]string{"--host", guardedHost}, limits...)...)
	return arrived
}

// shell is an agent that does what it is told, a line at a time.
func shell(w *e2e.World) *e2e.Program {
	return w.Start("guarded", "bash", "-c", `while read -r line; do eval "$line" 2>&1 | tr '\n' ' '; echo; done`)
}

// TestLimits: an agent tries to use a credential for more than it is for, and as
// often as it is not.
func TestLimits(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	arrived := guarded(t, w, "--method", "GET", "--method", "POST", "--path", "/v1/charges", "--budget", "6/day", "--expires", "90d")
	first, second := shell(w), shell(w)
	ask := func(agent *e2e.Program, args string) string {
		return agent.Ask("curl -sS --path-as-is -i " + args)
	}
	url := "https://" + guardedHost
	for what, tt := range map[string]struct{ args, code string }{
		"a method":          {"-X DELETE " + url + "/v1/charges", "limit_method"},
		"a path":            {url + "/v1/refunds", "limit_path"},
		"a longer name":     {url + "/v1/chargesback", "limit_path"},
		"dots":              {url + "/v1/charges/../refunds", "bad_path"},
		"encoded dots":      {url + "/v1/charges/%2e%2e/refunds", "bad_path"},
		"dots, parameter":   {"'" + url + "/v1/charges/..;/refunds'", "bad_path"},
		"an encoded slash":  {url + "/v1/charges%2f..%2frefunds", "bad_path"},
		"two slashes":       {url + "/v1/charges//../../refunds", "bad_path"},
		"an override":       {"-X POST -H 'X-HTTP-Method-Override: DELETE' " + url + "/v1/charges", "bad_request"},
		"a copy of another": {"-X POST -H 'X-Amz-Copy-Source: /v1/refunds' " + url + "/v1/charges", "bad_request"},
		"another by HTTP/1": {"--http1.1 -X PUT " + url + "/v1/charges", "limit_method"},
	} {
		if got := ask(first, tt.args); !strings.Contains(strings.ToLower(got), "sallyport-error: "+tt.code) {
			t.Errorf("%s: want %s, got %s", what, tt.code, got)
		}
	}
	if n := arrived.Load(); n != 0 {
		t.Fatalf("%d requests past the limits arrived", n)
	}
	for i := range 6 {
		agent := []*e2e.Program{first, second}[i%2]
		if got := ask(agent, url+"/v1/charges/ch_1"); !strings.Contains(got, " 200 ") {
			t.Errorf("request %d: %s", i, got)
		}
	}
	for _, agent := range []*e2e.Program{first, second, shell(w)} {
		got := strings.ToLower(ask(agent, url+"/v1/charges"))
		if !strings.Contains(got, " 429 ") || !strings.Contains(got, "sallyport-error: limit_budget") || !strings.Contains(got, "retry-after: ") {
			t.Errorf("past the budget: %s", got)
		}
	}
	if n := arrived.Load(); n != 6 {
		t.Errorf("%d requests arrived of a budget of 6", n)
	}
	if shown := w.CLI("credential", "show", "--vault", "guarded", "guarded"); !strings.Contains(shown, "6/day, 6 allotted") || !strings.Contains(shown, "GET, POST") {
		t.Errorf("it is shown as\n%s", shown)
	}
	// Another limit holds from the next request on, in sandboxes that run.
	w.CLI("credential", "set", "--vault", "guarded", "guarded", "--budget", "none", "--rate", "3/min", "--method", "*")
	w.Eventually("the changed limits hold", func() bool {
		return strings.Contains(strings.ToLower(ask(first, "-X PUT "+url+"/v1/charges")), "limit_rate")
	})
	if n := arrived.Load(); n < 7 || n > 6+4 {
		t.Errorf("%d requests arrived by a rate of 3 a minute", n-6)
	}
	reasons := make(map[string]bool)
	w.Eventually("the audit log has the refusals", func() bool {
		for _, e := range events(t, w) {
			reasons[e.Reason] = true
		}
		return reasons["limit_method"] && reasons["limit_path"] && reasons["limit_budget"] && reasons["limit_rate"] && reasons["bad_path"]
	})
}

// TestApproval: a request waits until a person has decided about it, and nothing
// of it leaves before.
func TestApproval(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	arrived := guarded(t, w, "--approve", "each", "--approve-timeout", "60s")
	url := "https://" + guardedHost
	waiting := func() (all []control.Approval) {
		if err := json.Unmarshal([]byte(w.CLI("approval", "list", "-o", "json")), &all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	one := func(what string) control.Approval {
		t.Helper()
		w.Eventually(what, func() bool { return len(waiting()) == 1 })
		return waiting()[0]
	}
	agent := shell(w)
	for _, version := range []string{"--http1.1", "--http2"} {
		for verb, want := range map[string]string{"approve": " 200 ", "deny": "approval_denied"} {
			before := arrived.Load()
			answer := make(chan string, 1)
			// A body without end, of which some is there from the start.
			go func() {
				answer <- agent.Ask("(echo begin; sleep 1) | curl -sS -i " + version + " -T - -X POST " + url + "/" + verb + version)
			}()
			q := one("the request waits")
			if q.Method != "POST" || q.Path != "/"+verb+version || q.Host != guardedHost || q.Agent != "guarded" {
				t.Errorf("a person is shown %+v", q)
			}
			if arrived.Load() != before {
				t.Error("it arrived before it was approved")
			}
			w.CLI("approval", verb, q.ID)
			if got := <-answer; !strings.Contains(got, want) {
				t.Errorf("%s, %s: %s", version, verb, got)
			}
			if sent := arrived.Load() - before; sent != 1 && verb == "approve" || sent != 0 && verb == "deny" {
				t.Errorf("%s: %d requests arrived", verb, sent)
			}
			if again := w.TryCLI("", "approval", "approve", q.ID); again.Status == 0 {
				t.Error("it was decided twice")
			}
		}
		// A client that goes takes its question along.
		gone := make(chan string, 1)
		go func() { gone <- agent.Ask("timeout 3 curl -sS " + version + " " + url + "/gone; echo gone") }()
		one("the client waits")
		<-gone
		w.Eventually("the question is withdrawn", func() bool { return len(waiting()) == 0 })
	}
	if got := w.CLI("audit", "list", "-o", "json"); !strings.Contains(got, `"approval.approve"`) || !strings.Contains(got, `"approval.deny"`) {
		t.Errorf("the audit log says nothing of who decided: %s", got)
	}
	w.CLI("credential", "set", "--vault", "guarded", "guarded", "--approve-timeout", "1s")
	w.Eventually("nobody decides in time", func() bool {
		got := agent.Ask("curl -sS -i --max-time 20 " + url + "/late")
		return strings.Contains(got, " 504 ") && strings.Contains(got, "approval_timeout")
	})
}
