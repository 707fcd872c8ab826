package admin_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	callCell    = regexp.MustCompile("(?m)^\\| (`(?:GET|POST|PUT|PATCH|DELETE) .*?) \\| ")
	callSpan    = regexp.MustCompile("`([A-Z ]*?) ?((?:/|…)[^`?]*)(?:\\?[^`]*)?`")
	placeholder = regexp.MustCompile(`/[A-Z]+\b`)
)

// documented are the calls of docs/api.md's table, as "GET /v1/teams/{}"; what
// begins with … stands for any beginning.
func documented(t *testing.T, page string) []operation {
	t.Helper()
	var all []operation
	for _, cell := range callCell.FindAllStringSubmatch(page, -1) {
		methods := ""
		for _, span := range callSpan.FindAllStringSubmatch(cell[1], -1) {
			if span[1] != "" {
				methods = span[1]
			}
			for _, method := range strings.Fields(methods) {
				all = append(all, operation{method: method, path: placeholder.ReplaceAllString(span[2], "/{}")})
			}
		}
	}
	return all
}

// is reports whether a call of the page is op.
func (op operation) is(page operation) bool {
	path := parameter.ReplaceAllString(op.path, "{}")
	end, cut := strings.CutPrefix(page.path, "…")
	return op.method == page.method && (path == page.path || cut && strings.HasSuffix(path, end))
}

// The page names every call that there is, and none that is not.
func TestDocumentedCalls(t *testing.T) {
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	if calls := documented(t, "| `GET PUT …/agents/A/gone`, `…/x` | x |\n"); len(calls) != 4 || calls[1] != (operation{"", "PUT", "…/agents/{}/gone"}) {
		t.Errorf("a table is read as %q", calls)
	}
	calls, there := documented(t, string(page)), append(operations(t), operation{"", "GET", "/healthz"}, operation{"", "GET", "/readyz"})
	for _, op := range there {
		if !slices.ContainsFunc(calls, op.is) {
			t.Errorf("docs/api.md has nothing on %s %s", op.method, op.path)
		}
	}
	for _, call := range calls {
		if !slices.ContainsFunc(there, func(op operation) bool { return op.is(call) }) {
			t.Errorf("docs/api.md names %s %s, which is not there", call.method, call.path)
		}
	}
}
