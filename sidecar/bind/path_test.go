package bind

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"sallyport/control/api"
)

// No path that gets past a rule that denies /admin is /admin to a server that
// decodes it once or twice, cleans it, drops parameters, takes backslashes for
// slashes, or does not tell capitals from small letters.
func FuzzPathGetsPastNoRule(f *testing.F) {
	for _, s := range crooked {
		f.Add(s)
	}
	f.Add("/v1/charges/ch_1")
	f.Add("/docs/%C3%A9/100%25")
	tab := policyTable(f, inspect, nil, &api.PolicyRule{Action: deny, Hosts: []string{"api.test"}, Paths: []string{"/admin"}})
	readings := []func(string) string{
		func(s string) string {
			if plain, err := url.PathUnescape(s); err == nil {
				return plain
			}
			return s
		},
		func(s string) string { return path.Clean("/" + s) },
		func(s string) string { return strings.ReplaceAll(s, `\`, "/") },
		func(s string) string { before, _, _ := strings.Cut(s, "\x00"); return before },
		func(s string) string { return strings.TrimRight(s, ". ") },
		func(s string) string {
			parts := strings.Split(s, "/")
			for i := range parts {
				parts[i], _, _ = strings.Cut(parts[i], ";")
			}
			return strings.Join(parts, "/")
		},
	}
	f.Fuzz(func(t *testing.T, escaped string) {
		if len(escaped) > 200 || !strings.HasPrefix(escaped, "/") || strings.ContainsAny(escaped, "?#") || tab.decide(Request{"api.test", 443, true, "GET", escaped}) != nil {
			return
		}
		seen := map[string]bool{escaped: true}
		for queue := []string{escaped}; len(queue) > 0 && len(seen) < 1000; queue = queue[1:] {
			if first, _, _ := strings.Cut(strings.TrimPrefix(queue[0], "/"), "/"); strings.EqualFold(first, "admin") {
				t.Fatalf("%q gets through and can be read as %q", escaped, queue[0])
			}
			for _, read := range readings {
				if next := read(queue[0]); !seen[next] {
					seen[next] = true
					queue = append(queue, next)
				}
			}
		}
	})
}
