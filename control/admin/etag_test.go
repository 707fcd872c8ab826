package admin_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sallyport/control/controltest"
)

// TestUpdatesAreConditional: what changed since it was read is not changed, and nothing
// is without being read.
func TestUpdatesAreConditional(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	for path, bodies := range map[string][2]string{
		"vaults/v/credentials/stripe": {`{"mints":["allow /**"]}`, `{"mints":[]}`},
		"":                            {`{"audit":"strict"}`, `{"audit":"durable"}`},
		"agents/a/policy":             {`{"default":"deny"}`, `{"default":"inspect","rules":[{"action":"deny","hosts":["x.example.com"]}]}`},
	} {
		method := map[bool]string{true: "PUT", false: "PATCH"}[strings.HasSuffix(path, "policy")]
		update := func(body string, match ...string) controltest.Response {
			t.Helper()
			return plane.DoWith(t, plane.Owner, method, strings.TrimSuffix(team.Path(path), "/"), body, http.Header{"If-Match": match})
		}
		read := func() string {
			t.Helper()
			r := plane.Do(t, plane.Owner, "GET", strings.TrimSuffix(team.Path(path), "/"), nil)
			if tag := r.Header.Get("ETag"); r.Status == 200 && len(tag) > 10 && tag[0] == '"' {
				return tag
			}
			t.Fatalf("GET %s: %d, ETag %q", path, r.Status, r.Header.Get("ETag"))
			return ""
		}
		first := read()
		problem(t, update(bodies[0]), 428)
		problem(t, update(bodies[0], ""), 428)
		problem(t, update(bodies[0], `"other"`), 412)
		problem(t, update(bodies[0], "W/"+first), 412) // a weak one matches nothing (RFC 9110 section 13.1.1)
		if read() != first {
			t.Errorf("%s: a refused update changed it", path)
		}
		r := update(bodies[0], first)
		if second := read(); r.Status != 200 || r.Header.Get("ETag") != second || second == first {
			t.Errorf("%s: %d, ETag %q, then %q, now %q", path, r.Status, r.Header.Get("ETag"), first, second)
		}
		problem(t, update(bodies[1], first), 412)
		if r := update(bodies[1], `"other", `+read()); r.Status != 200 {
			t.Errorf("%s: one of several: %d %s", path, r.Status, r.Body)
		}
		if r := update(bodies[0], "*"); r.Status != 200 {
			t.Errorf("%s: any: %d %s", path, r.Status, r.Body)
		}
		// Of many who read the same, one changes it.
		tag := read()
		var done, refused atomic.Int32
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				switch r := plane.DoWith(t, plane.Owner, method, strings.TrimSuffix(team.Path(path), "/"), bodies[1], http.Header{"If-Match": {tag}}); r.Status {
				case 200:
					done.Add(1)
				case 412:
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		if done.Load() != 1 || refused.Load() != 9 {
			t.Errorf("%s: %d changed it and %d were refused", path, done.Load(), refused.Load())
		}
	}
}
