package admin_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"sallyport/control"
)

// A secret goes in by every way there is, right and wrong, and comes out by none.
func TestSecretsOnlyGoIn(t *testing.T) {
	team := plane.NewTeam(t)
	const canary = "sk_live_CaNaRy0123456789"
	var answers []string
	keep := func(method, path string, body any) int {
		t.Helper()
		r := team.Call(t, method, path, body)
		answers = append(answers, fmt.Sprint(method, " ", path, ": ", r.Body, r.Header))
		return r.Status
	}
	keep("POST", "vaults", map[string]any{"name": "v"})
	if status := keep("POST", "vaults/v/credentials", map[string]any{"name": "c", "service": "stripe", "secret": canary}); status != 201 {
		t.Fatalf("status %d: %s", status, answers)
	}
	if status := keep("POST", "vaults/v/credentials/c/rotate?wait=1ms", map[string]any{"secret": canary + "2"}); status != 200 {
		t.Fatalf("status %d: %s", status, answers)
	}
	with := func(change string, value any) map[string]any {
		body := map[string]any{"name": "x", "service": "stripe", "secret": canary}
		body[change] = value
		return body
	}
	for what, body := range map[string]any{
		"a name that is taken":      with("name", "c"),
		"a bad name":                with("name", "NO"),
		"a line break":              with("secret", canary+"\n"),
		"an escaped secret":         with("secret", canary+"\"\\\x01"),
		"a long secret":             with("secret", strings.Repeat(canary, 1000)),
		"a secret that is a list":   with("secret", []string{canary}),
		"a secret that is a thing":  with("secret", map[string]string{"a": canary}),
		"a bad host":                with("hosts", []string{"*"}),
		"a bad auth":                with("auth", "magic"),
		"an unknown field":          with("secert", canary),
		"the secret as a field":     with(canary, 1),
		"a wrong type":              with("hosts", 1),
		"a list instead":            []any{canary},
		"a string instead":          `"` + canary + `"`,
		"cut JSON":                  `{"name":"x","secret":"` + canary,
		"no JSON":                   canary,
		"JSON and more":             `{"name":"x","service":"stripe","secret":"` + canary + `"} ` + canary,
		"a broken escape":           `{"name":"x","service":"stripe","secret":"` + canary + `\ud800\q"}`,
		"half a character":          `{"name":"x","service":"stripe","secret":"` + canary + `\\\ud83d"}`,
		"its other half":            `{"name":"x","service":"stripe","secret":"` + canary + `\uDE00\ud83d"}`,
		"broken UTF-8 and escapes":  "{\"name\":\"x\",\"service\":\"stripe\",\"secret\":\"" + canary + "\\n\xff\"}",
		"a bare secret":             `{"name":"x","service":"stripe","secret":` + canary + `}`,
		"a number":                  `{"name":"x","service":"stripe","secret":12345678901234567890}`,
		"broken UTF-8":              "{\"name\":\"x\",\"service\":\"stripe\",\"secret\":\"" + canary + "\xff\"}",
		"a basic one, no username":  with("auth", "basic"),
		"a secret that comes twice": `{"secret":"` + canary + `","secret":"` + canary + `\u0000"}`,
	} {
		if status := keep("POST", "vaults/v/credentials", body); status < 400 || status > 499 {
			t.Errorf("%s: status %d", what, status)
		}
		if status := keep("POST", "vaults/v/credentials/c/rotate", body); status < 400 || status > 499 {
			t.Errorf("%s, in a rotation: status %d", what, status)
		}
		if status := keep("POST", "vaults/none/credentials", body); status < 400 || status > 499 {
			t.Errorf("%s, for no vault: status %d", what, status)
		}
	}
	for _, path := range []string{"vaults", "vaults/v", "vaults/v/credentials", "vaults/v/credentials/c", "agents", "sandboxes", "audit?limit=1000", "tokens"} {
		if status := keep("GET", path, nil); status != 200 {
			t.Errorf("GET %s: status %d", path, status)
		}
	}
	all := strings.Join(answers, "\n") + plane.Log.String()
	for _, form := range []string{canary, "CaNaRy", "12345678901234567890", base64.StdEncoding.EncodeToString([]byte(canary))[:20]} {
		if i := strings.Index(all, form); i >= 0 {
			t.Errorf("%q comes out: …%s…", form, all[max(0, i-200):min(len(all), i+100)])
		}
	}
}

func TestStrictBodies(t *testing.T) {
	team := plane.NewTeam(t)
	for what, body := range map[string]string{
		"nothing": "", "an unknown field": `{"name":"x","nmae":"y"}`, "another type": `{"name":1}`, "two values": `{"name":"x"}{"name":"y"}`,
		"null": "null", "a list": "[]",
		"half of it": `{"name":`, "another case": `{"NAME":"UP"}`,
	} {
		if r := team.Call(t, "POST", "vaults", body); r.Status != 422 {
			t.Errorf("%s: %d %s", what, r.Status, r.Body)
		}
	}
	problem(t, team.Call(t, "POST", "vaults", `{"name":"`+strings.Repeat("x", 200_000)+`"}`), 413)
	r, err := http.NewRequestWithContext(t.Context(), "POST", plane.AdminURL+team.Path("vaults"), strings.NewReader(`{"name":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+plane.Owner)
	r.Header.Set("Content-Type", "text/plain")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 415 {
		t.Errorf("a body of another type: %d", response.StatusCode)
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "unknown=1", "after=" + strings.Repeat("x", 300)} {
		r := team.Call(t, "GET", "vaults?"+query, nil)
		problem(t, r, 422)
		if strings.Contains(r.Body, "xxx") {
			t.Errorf("the answer repeats the value: %s", r.Body)
		}
	}
	for _, wait := range []string{"x", "-1s", "10h", "1"} {
		problem(t, team.Call(t, "POST", "vaults/v/credentials/c/rotate?wait="+wait, map[string]any{"secret": "s"}), 422)
	}
	// What can't be a name is not there.
	for _, path := range []string{"vaults/%00", "vaults/UPPER", "agents/a%2Fb", "sandboxes/'", "vaults/v/credentials/%ff"} {
		problem(t, team.Call(t, "GET", path, nil), 404)
	}
	problem(t, plane.Do(t, plane.Owner, "GET", "/v2/teams", nil), 404)
	problem(t, plane.Do(t, plane.Owner, "PATCH", "/v1/teams", nil), 405)
}

func TestTokens(t *testing.T) {
	team := plane.NewTeam(t)
	var made struct {
		control.Token
		Value string
	}
	team.Must(t, "POST", "tokens", map[string]any{"name": "ci", "role": "member"}, &made)
	if made.Name != "ci" || made.Role != control.RoleMember || made.Team != team.Name || !strings.HasPrefix(made.Value, "sp_") || len(made.Value) != 46 {
		t.Errorf("the token is %+v", made)
	}
	var who struct{ Token, Team, Role, Version, SidecarURL string }
	plane.Do(t, made.Value, "GET", "/v1/info", nil).Into(t, 200, &who)
	if who.Token != "ci" || who.Team != team.Name || who.Role != "member" || who.Version != "test" {
		t.Errorf("it is %+v", who)
	}
	if r := team.Call(t, "GET", "tokens", nil); r.Status != 200 || strings.Contains(r.Body, made.Value) || !strings.Contains(r.Body, `"ci"`) {
		t.Errorf("the list: %d %s", r.Status, r.Body)
	}
	for what, body := range map[string]map[string]any{
		"an unknown role": {"name": "x", "role": "root"}, "no role": {"name": "x"}, "a bad name": {"name": "X", "role": "viewer"},
		"one of the past": {"name": "x", "role": "viewer", "expires_at": "2020-01-01T00:00:00Z"},
	} {
		if r := team.Call(t, "POST", "tokens", body); r.Status != 422 {
			t.Errorf("%s: %d %s", what, r.Status, r.Body)
		}
	}
	problem(t, team.Call(t, "POST", "tokens", map[string]any{"name": "ci", "role": "viewer"}), 409)
	if r := team.Call(t, "DELETE", "tokens/ci", nil); r.Status != 204 || r.Body != "" {
		t.Errorf("removing it: %d %s", r.Status, r.Body)
	}
	problem(t, plane.Do(t, made.Value, "GET", "/v1/info", nil), 401)
	for _, header := range []string{"", "Bearer ", "Basic " + made.Value, made.Value, "Bearer " + made.Value[3:]} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", plane.AdminURL+"/v1/info", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", header)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 401 || response.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%q: %d", header, response.StatusCode)
		}
	}
}

// What is not refused is kept as it was sent.
func TestEscapedSecret(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	s := team.Join(t)
	for i, tc := range []struct{ sent, kept string }{
		{`a\\ud83d\uFFFD\"`, "a\\ud83d\uFFFD\""},
		{`\ud83d\uDE00`, "\U0001F600"},
	} {
		team.Must(t, "POST", "vaults/v/credentials/stripe/rotate", `{"secret":"`+tc.sent+`"}`, nil)
		var c control.Credential
		team.Must(t, "GET", "vaults/v/credentials/stripe", nil, &c)
		m, err := s.Fetch(t.Context(), c.ID, uint64(i+2), "api.stripe.com")
		if err != nil || string(m.Token) != tc.kept {
			t.Errorf("%s is kept as %q, %v", tc.sent, string(m.Token), err)
		}
	}
}
