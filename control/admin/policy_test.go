package admin_test

import (
	"fmt"
	"strings"
	"testing"

	"sallyport/control"
)

func TestPolicy(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	const fresh = `{"default":"inspect","rules":[],"revision":`
	if r := team.Call(t, "GET", "agents/a/policy", nil); r.Status != 200 || !strings.HasPrefix(r.Body, fresh) || !strings.HasSuffix(strings.TrimSpace(r.Body), `"notes":[]}`) {
		t.Errorf("a new agent has %d %s", r.Status, r.Body)
	}
	r := team.Call(t, "PUT", "agents/a/policy", `{"default":"deny","rules":[
		{"action":"inspect","hosts":["PyPI.org."],"methods":["GET","HEAD"],"paths":["/simple/"]},
		{"action":"passthrough","hosts":["API.stripe.com","10.0.0.0/8"]},
		{"action":"deny","hosts":["pypi.org"],"methods":["GET"],"ports":[443]}]}`)
	const want = `{"default":"deny","rules":[` +
		`{"action":"inspect","hosts":["pypi.org"],"methods":["GET","HEAD"],"paths":["/simple/"]},` +
		`{"action":"passthrough","hosts":["api.stripe.com","10.0.0.0/8"]},` +
		`{"action":"deny","hosts":["pypi.org"],"ports":[443],"methods":["GET"]}],"revision":`
	if r.Status != 200 || !strings.HasPrefix(r.Body, want) ||
		!strings.Contains(r.Body, `"notes":["rule 2 passes no connection to api.stripe.com (credential v/stripe) through`) {
		t.Errorf("stored %d %s", r.Status, r.Body)
	}
	if read := team.Call(t, "GET", "agents/a/policy", nil); read.Body != r.Body {
		t.Errorf("read %s\nafter %s", read.Body, r.Body)
	}
	act := team.Events(t)[0]
	if act.Kind != "agent.policy" || !strings.HasPrefix(act.Actor, "token:") ||
		act.Detail != "a: default deny; inspect pypi.org GET,HEAD /simple/; passthrough api.stripe.com,10.0.0.0/8; deny pypi.org:443 GET" {
		t.Errorf("recorded %+v", act)
	}
	// It replaces the whole, and follows the pins.
	team.Must(t, "PUT", "agents/a/policy", `{"rules":[{"action":"passthrough","hosts":["api.stripe.com"]}]}`, nil)
	team.Must(t, "DELETE", "agents/a/pins/v", nil, nil)
	if r := team.Call(t, "GET", "agents/a/policy", nil); !strings.HasPrefix(r.Body, `{"default":"inspect","rules":[{"action":"passthrough","hosts":["api.stripe.com"]}],`) || !strings.Contains(r.Body, `"notes":[]`) {
		t.Errorf("then it is %s", r.Body)
	}
}

func TestPolicyRefused(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	before := team.Call(t, "GET", "agents/a/policy", nil).Body
	for body, says := range map[string]string{
		`{"default":"allow"}`:                                                            "default: the action",
		`{"rules":[{"hosts":["a.example"]}]}`:                                            "rule 1, action: ",
		`{"rules":[{"action":"deny"},{"action":"maybe"}]}`:                               "rule 2, action: ",
		`{"rules":[{"action":"deny","hosts":["a_b"]}]}`:                                  "rule 1, hosts: ",
		`{"rules":[{"action":"deny","ports":[0]}]}`:                                      "rule 1, ports: ",
		`{"rules":[{"action":"deny","ports":[70000]}]}`:                                  "rule 1, ports: 70000",
		`{"rules":[{"action":"deny","ports":[-1]}]}`:                                     `"rules.ports" has the wrong type`,
		`{"rules":[{"action":"deny","ports":[4294967739]}]}`:                             `"rules.ports" has the wrong type`,
		`{"rules":[{"action":"deny","methods":["get"]}]}`:                                "rule 1, methods: ",
		`{"rules":[{"action":"passthrough","paths":["/"]}]}`:                             "rule 1, paths: ",
		`{"rules":[{"action":"deny","path":["/"]}]}`:                                     `"path"`,
		`{"rules":[{"action":"deny","hosts":"a.example"}]}`:                              `"rules.hosts" has the wrong type`,
		`{"rules":[` + strings.Repeat(`{"action":"deny"},`, 256) + `{"action":"deny"}]}`: "rules: 257 rules",
	} {
		if detail := problem(t, team.Call(t, "PUT", "agents/a/policy", body), 422); !strings.Contains(detail, says) {
			t.Errorf("%.80s: %s, want … %s", body, detail, says)
		}
	}
	if detail := problem(t, team.Call(t, "PUT", "agents/none/policy", `{}`), 404); !strings.Contains(detail, `agent "none"`) {
		t.Error(detail)
	}
	problem(t, team.Call(t, "GET", "agents/none/policy", nil), 404)
	if after := team.Call(t, "GET", "agents/a/policy", nil).Body; after != before {
		t.Errorf("a refused policy left %s", after)
	}
	if r := plane.Do(t, token(t, team, control.RoleMember), "PUT", team.Path("agents/a/policy"), `{}`); r.Status != 403 {
		t.Errorf("a member: %d", r.Status)
	}
	if r := plane.Do(t, token(t, team, control.RoleViewer), "GET", team.Path("agents/a/policy"), nil); r.Status != 200 {
		t.Errorf("a viewer: %d", r.Status)
	}
}

func TestAllowWebsocket(t *testing.T) {
	team := plane.NewTeam(t)
	team.Must(t, "POST", "vaults", map[string]any{"name": "v"}, nil)
	for _, tc := range []struct {
		body string
		want bool
	}{
		{`"hosts":["a.example.com"]`, false},
		{`"hosts":["a.example.com"],"allow_websocket":true`, true},
		{`"service":"stripe"`, false},
		{`"service":"openai"`, true},
		{`"service":"openai","allow_websocket":false`, false},
	} {
		var c control.Credential
		team.Must(t, "POST", "vaults/v/credentials", `{"name":"x","secret":"s3cret-of-x",`+tc.body+`}`, &c)
		if c.AllowWebsocket != tc.want {
			t.Errorf("%s: %v", tc.body, c.AllowWebsocket)
		}
		var read control.Credential
		team.Must(t, "GET", "vaults/v/credentials/x", nil, &read)
		if read.AllowWebsocket != tc.want {
			t.Errorf("%s, read again: %v", tc.body, read.AllowWebsocket)
		}
		team.Must(t, "DELETE", "vaults/v/credentials/x", nil, nil)
	}
}

// Generators of clients see what a body is.
func TestPolicyIsDocumented(t *testing.T) {
	doc := document(t)
	put := doc["paths"].(map[string]any)["/v1/teams/{team}/agents/{agent}/policy"].(map[string]any)["put"].(map[string]any)
	if body := fmt.Sprint(put["requestBody"]); !strings.Contains(body, "#/components/schemas/NewPolicy") {
		t.Errorf("PUT has the body %s", body)
	}
	seen := make(map[string]bool)
	walk(doc, put["requestBody"], map[string]bool{}, func(field string, schema map[string]any) {
		seen[field] = true
		said := fmt.Sprint(schema)
		if (field == "default" || field == "action") && !strings.Contains(said, "enum:[inspect passthrough deny]") || field == "ports" && !strings.Contains(said, "maximum:65535 minimum:1") {
			t.Errorf("%s is documented as %s", field, said)
		}
	})
	for _, field := range []string{"default", "rules", "action", "hosts", "ports", "methods", "paths"} {
		if !seen[field] {
			t.Errorf("%s is not documented", field)
		}
	}
}
