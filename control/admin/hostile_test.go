package admin_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"sallyport/control"
	"sallyport/control/controltest"
)

// hostile is how many requests of each operation are tried, 0 for all 7,000.
var hostile = flag.Int("hostile", 20, "hostile requests for each operation; 0: all")

// What callers send in the place of what is meant.
var (
	hostileValues = []string{
		`null`, `true`, `-1`, `0`, `1.5`, `1e999`, `9223372036854775808`, `-9223372036854775809`, `""`, `"\u0000"`, `"a\u0000b"`, `"\ud800"`, "\"\xff\"", "\"a\nb\"",
		`"\u202e"`, `"` + strings.Repeat("x", 20_000) + `"`, `[]`, `[null]`, `[[]]`, `["\u0000"]`, `["", ""]`, `{}`, `{"": ""}`, `{"\u0000": "\u0000"}`, `{"x": {"x": {}}}`,
		strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000), strings.Repeat(`{"x":`, 15_000) + `1` + strings.Repeat("}", 15_000), `nul`, `"`, `[`,
		`"9999-12-31T23:59:59Z"`, `"0000-01-01T00:00:00Z"`, `"-1s"`, `"9999999999h"`, `"1ns"`, `"99999999999999999999d"`,
	}
	hostileNames = []string{
		"%00", "a%00b", "%ff", "%c0%af", "a%2fb", "%2e%2e", "%20", "%E2%80%AE", "A", "-", "'%22;--", "%25s", "null", "00000000-0000-0000-0000-000000000000", "g0000000-0000-0000-0000-000000000000",
		strings.Repeat("a", 64), strings.Repeat("a", 5_000),
	}
	hostileQueries = []string{
		"", "%00", "%ff", "-1", "0", "1e3", "99999999999999999999", "9223372036854775807", "1001", "true", "null", "%22", strings.Repeat("x", 600), "9999-12-31T23:59:59Z", "-1h", "1ns", "9999999h",
		"bGlzdC12YXVsdHMKAA", "bGlzdC12YXVsdHMK", "1:zz", "9223372036854775807:" + strings.Repeat("0", 64),
	}
	hostileHeaders = []http.Header{
		{"If-Match": {""}}, {"If-Match": {"x"}}, {"If-Match": {`W/"x"`}}, {"If-Match": {`"x", *`}}, {"If-Match": {`"`}}, {"If-Match": {strings.Repeat(`"x",`, 500)}}, {"If-Match": {`"x"`, `"y"`}},
		{"Idempotency-Key": {" "}}, {"Idempotency-Key": {"a b"}}, {"Idempotency-Key": {"\xff"}}, {"Idempotency-Key": {strings.Repeat("k", 256)}}, {"Idempotency-Key": {"k", "l"}},
		{"Content-Type": {"text/plain"}}, {"Content-Type": {"application/json, text/plain"}}, {"Content-Type": {"application/json; charset=utf-16"}}, {"Content-Type": {""}}, {"Content-Encoding": {"gzip"}},
		{"Accept": {"text/html"}}, {"Accept": {"*/*;q=x"}}, {"Authorization": {"Basic x"}}, {"Authorization": {"Bearer"}}, {"Cookie": {"sallyport=x; =; ;"}}, {"X-Request-Id": {strings.Repeat("r", 1000)}},
	}
)

// hostility is what one operation is asked.
type hostility struct {
	path, body string
	header     http.Header
	never      bool // may it succeed
}

// TestHostileRequests asks every operation in ways that none is meant for. Each answer is a problem that
// says what was wrong, or none at all was; what was refused has changed nothing.
func TestHostileRequests(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_0123456789")
	sandbox, _ := team.NewSandbox(t)
	names := map[string]string{"team": team.Name, "vault": "v", "credential": "stripe", "agent": "a", "sandbox": sandbox}
	doc := document(t)
	bodies := map[string]map[string]any{}
	for _, d := range deeds("https://127.0.0.1:1", "https://127.0.0.1:1") {
		if body, ok := d.body.(map[string]any); ok && bodies[d.op] == nil {
			bodies[d.op] = body
		}
	}
	all := operations(t)
	last := func(op operation) int { return strings.Index(op.id, "set-quota") } // it leaves room for nothing
	slices.SortFunc(all, func(a, b operation) int { return cmp.Or(cmp.Compare(last(a), last(b)), cmp.Compare(a.id, b.id)) })
	for _, op := range all {
		if op.id == "rotate-keys" || op.id == "rotate-ca" { // of all teams
			continue
		}
		t.Run(op.id, func(t *testing.T) { besiege(t, team, op, hostilities(t, doc, op, names, bodies[op.id])) })
	}
	if err := plane.Store.VerifyChain(t.Context(), team.ID); err != nil {
		t.Error(err)
	}
}

// hostilities are those for one operation, of whose parameters and body one thing each is wrong.
func hostilities(t *testing.T, doc map[string]any, op operation, names map[string]string, good map[string]any) (all []hostility) {
	t.Helper()
	if op.method == "DELETE" { // what is there is for the others
		names = map[string]string{"team": names["team"]}
	}
	at := func(names map[string]string) string {
		return parameter.ReplaceAllStringFunc(op.path, func(p string) string {
			if name := names[strings.Trim(p, "{}")]; name != "" {
				return name
			}
			return "none"
		})
	}
	valid, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	about := doc["paths"].(map[string]any)[op.path].(map[string]any)[strings.ToLower(op.method)].(map[string]any)
	for _, p := range parameter.FindAllString(op.path, -1) {
		for _, name := range hostileNames {
			wrong := maps.Clone(names)
			wrong[strings.Trim(p, "{}")] = name
			all = append(all, hostility{path: at(wrong), body: string(valid), never: true})
		}
	}
	parameters, _ := about["parameters"].([]any)
	for _, p := range parameters {
		if p := p.(map[string]any); p["in"] == "query" {
			for _, value := range hostileQueries {
				all = append(all, hostility{path: at(names) + "?" + url.QueryEscape(p["name"].(string)) + "=" + value, body: string(valid)})
			}
		}
	}
	for _, header := range hostileHeaders {
		all = append(all, hostility{path: at(names), body: string(valid), header: header})
	}
	content, _ := about["requestBody"].(map[string]any)
	if content == nil {
		return all
	}
	for _, value := range append(hostileValues, string(valid)+"x", `{"none": 1}`, `{"name": "x", "name": 1}`) {
		all = append(all, hostility{path: at(names), body: value, never: !strings.HasPrefix(value, "{")})
	}
	for property := range properties(doc, content) {
		for _, value := range hostileValues {
			var rest strings.Builder
			for name, other := range good {
				if text, err := json.Marshal(other); err == nil && name != property {
					rest.WriteString(`, "` + name + `": ` + string(text))
				}
			}
			all = append(all, hostility{path: at(names), body: `{"` + property + `": ` + value + rest.String() + `}`})
		}
	}
	return all
}

// properties are those of the body that is described by content.
func properties(doc, content map[string]any) map[string]any {
	schema := content["content"].(map[string]any)["application/json"].(map[string]any)["schema"].(map[string]any)
	if ref, ok := schema["$ref"].(string); ok {
		schema = doc["components"].(map[string]any)["schemas"].(map[string]any)[ref[strings.LastIndex(ref, "/")+1:]].(map[string]any)
	}
	of, _ := schema["properties"].(map[string]any)
	return of
}

func besiege(t *testing.T, team *controltest.Team, op operation, all []hostility) {
	t.Helper()
	if *hostile > 0 {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:min(*hostile, len(all))]
	}
	caller := token(t, nil, control.RoleOwner)
	before := ledger(t, team)
	done := map[string]bool{}
	for _, h := range all {
		header := http.Header{}
		if op.method == http.MethodPut || op.method == http.MethodPatch {
			header.Set("If-Match", "*")
		}
		maps.Copy(header, h.header)
		var body any
		if h.body != "" && h.body != "null" || op.method != http.MethodGet {
			body = h.body
		}
		r := plane.DoWith(t, caller, op.method, h.path, body, header)
		switch {
		case r.Status/100 == 2 && !h.never:
			done[r.Header.Get("X-Request-Id")] = true
		case r.Status == 500 || r.Status < 400: // also what can't be meant, and was done
			t.Errorf("%s %.200s with %.200q and %v: %d %s", op.method, h.path, h.body, h.header, r.Status, r.Body)
		case r.Status < 500 || r.Status == 502 || r.Status == 503:
			problem(t, r, r.Status)
		}
	}
	for _, e := range fresh(t, team, before, "") {
		if !done[e.RequestID] {
			t.Errorf("what was refused has left %+v", e)
		}
	}
}
