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
	f.Fuzz(func(t *testing.T, escaped string) {
		if len(escaped) > 200 || !strings.HasPrefix(escaped, "/") || strings.ContainsAny(escaped, "?#") || tab.decide(Request{"api.test", 443, true, "GET", escaped}) != nil {
			return
		}
		for _, path := range read(escaped) {
			if first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/"); strings.EqualFold(first, "admin") {
				t.Fatalf("%q gets through and can be read as %q", escaped, path)
			}
		}
	})
}

// No path that gets past a rule that refuses new keys makes one, at such servers
// and at those that take an extension for the format of the answer.
func FuzzPathMakesNoKey(f *testing.F) {
	for _, s := range crooked {
		f.Add(strings.Replace(s, "admin", "v1/keys", 1))
		f.Add("/v1" + s + "/../keys")
	}
	f.Add("/v1/keys.json")
	f.Add("/v1/charges/a%2Fb")
	b := minting("a", false, "POST /v1/keys")
	tab := table(f, []*api.Binding{b})
	f.Fuzz(func(t *testing.T, escaped string) {
		if len(escaped) > 200 || !strings.HasPrefix(escaped, "/") || strings.ContainsAny(escaped, "?#") {
			return
		}
		if _, err := mintOf(t, tab, b, "POST", escaped); err != nil {
			return
		}
		for _, path := range read(escaped) {
			clean := strings.Trim(strings.TrimSuffix(strings.ToLower(path), ".json"), "/")
			if clean == "v1/keys" {
				t.Fatalf("%q gets through and can be read as %q", escaped, path)
			}
		}
	})
}

// read gives what servers, one behind the other, make of a path.
func read(escaped string) []string {
	seen := map[string]bool{escaped: true}
	queue := []string{escaped}
	for i := 0; i < len(queue) && len(seen) < 1000; i++ {
		for _, read := range readings {
			if next := read(queue[i]); !seen[next] {
				seen[next] = true
				queue = append(queue, next)
			}
		}
	}
	return queue
}

// readings are what servers make of a path.
var readings = []func(string) string{
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
