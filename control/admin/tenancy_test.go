package admin_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"sallyport/control"
	"sallyport/control/admin"
	"sallyport/control/controltest"
	"sallyport/control/store"
)

// canary begins all that a team has which another must not hear of.
const canary = "canary-"

// A meeting is what an operation answers to one team that names what is another's,
// within its own: found is for whoever has the role.
type meeting struct {
	body  map[string]any
	found int
}

// meetings has every operation of the OpenAPI document.
var meetings = map[string]meeting{
	"get-info":      {nil, 200},
	"list-services": {nil, 200},

	"list-teams":  {nil, 200},
	"create-team": {map[string]any{"name": canary + "team"}, 403},
	"get-team":    {nil, 200},
	"update-team": {map[string]any{"audit": "durable"}, 200},

	"get-quota": {nil, 200},
	"set-quota": {map[string]any{"vaults": 1}, 403},

	"list-vaults":  {nil, 200},
	"create-vault": {map[string]any{"name": canary + "vault"}, 201}, // no conflict, or one could ask for names
	"get-vault":    {nil, 404},
	"delete-vault": {nil, 404},

	"list-credentials":    {nil, 404},
	"team-credentials":    {nil, 200},
	"create-credential":   {map[string]any{"name": canary + "credential", "service": "stripe", "secret": "mine"}, 404},
	"get-credential":      {nil, 404},
	"update-credential":   {map[string]any{"mints": []string{"allow /**"}}, 404},
	"rotate-credential":   {map[string]any{"secret": "mine"}, 404},
	"login-credential":    {map[string]any{"code": "c0de", "code_verifier": "v3rifier", "redirect_uri": "http://127.0.0.1:1/x"}, 404},
	"delete-credential":   {nil, 404},
	"discover-credential": {map[string]any{"name": "m", "url": "https://localhost:1/", "redirect_uri": "http://127.0.0.1:1/x"}, 404},
	"test-credential":     {map[string]any{}, 404},
	"end-overlap":         {nil, 404},
	"refresh-credential":  {nil, 404},

	"list-sources":  {nil, 404},
	"create-source": {map[string]any{"name": canary + "source", "kind": "vault", "settings": map[string]string{"address": "https://vault.example.com"}, "secret": "mine"}, 404},
	"get-source":    {nil, 404},
	"rotate-source": {map[string]any{"secret": "mine"}, 404},
	"delete-source": {nil, 404},

	"list-agents":  {nil, 200},
	"create-agent": {map[string]any{"name": canary + "agent"}, 201},
	"get-agent":    {nil, 404},
	"delete-agent": {nil, 404},
	"pin-vault":    {nil, 404},
	"unpin-vault":  {nil, 404},
	"get-policy":   {nil, 404},
	"set-policy":   {map[string]any{"default": "deny", "rules": []any{}}, 404},
	"explain":      {map[string]any{"method": "GET", "url": "https://api.example.com/"}, 404},

	"list-sandboxes": {nil, 200},
	"create-sandbox": {nil, 404},
	"get-sandbox":    {nil, 404},
	"delete-sandbox": {nil, 404},

	"list-approvals":   {nil, 200},
	"get-approval":     {nil, 404},
	"approve-approval": {nil, 404},
	"deny-approval":    {nil, 404},

	"list-events":   {nil, 200},
	"follow-events": {nil, 200},
	"verify-events": {nil, 200},

	"create-token-session": {nil, 201},

	"list-sessions":  {nil, 200},
	"delete-session": {nil, 404},

	"list-tokens":         {nil, 200},
	"create-token":        {map[string]any{"name": canary + "token", "role": "viewer"}, 201},
	"delete-token":        {nil, 404},
	"rotate-token":        {map[string]any{}, 404},
	"list-global-tokens":  {nil, 403},
	"create-global-token": {map[string]any{"name": canary + "token", "role": "viewer"}, 403},
	"delete-global-token": {nil, 403},
	"rotate-global-token": {map[string]any{}, 403},

	"get-keys":    {nil, 403},
	"rotate-keys": {map[string]any{"new_data_keys": true}, 403},
	"get-ca":      {nil, 403},
	"rotate-ca":   {map[string]any{"step": "stage"}, 403},
}

// victim is a team with something of every kind, by names that are easy to find again.
type victim struct {
	*controltest.Team
	sandbox, approval string
}

func newVictim(t *testing.T) victim {
	t.Helper()
	v := victim{Team: plane.NewTeam(t)}
	v.Must(t, "POST", "vaults", map[string]any{"name": canary + "vault"}, nil)
	v.Must(t, "POST", "vaults/"+canary+"vault/credentials", map[string]any{
		"name": canary + "credential", "hosts": []string{canary + "host.example.com"}, "username": canary + "user", "secret": canary + "secret",
		"limits": map[string]any{"approve": "each"},
	}, nil)
	v.Must(t, "POST", "vaults/"+canary+"vault/sources", map[string]any{
		"name": canary + "source", "kind": "vault", "settings": map[string]string{"address": "https://" + canary + "store.example.com"}, "secret": canary + "opens",
	}, nil)
	v.Must(t, "POST", "agents", map[string]any{"name": canary + "agent"}, nil)
	v.Must(t, "PUT", "agents/"+canary+"agent/pins/"+canary+"vault", nil, nil)
	v.Must(t, "POST", "tokens", map[string]any{"name": canary + "token", "role": "viewer"}, nil)
	var made struct {
		Sandbox   control.Sandbox
		JoinToken string `json:"join_token"`
	}
	v.Must(t, "POST", "agents/"+canary+"agent/sandboxes", nil, &made)
	v.sandbox = made.Sandbox.ID
	v.approval = askApproval(t, v.Team, made.JoinToken, canary+"vault", canary+"credential", "/"+canary+"path")[0].ID
	return v
}

// all is everything of the team that the API shows.
func (v victim) all(t *testing.T) (text string) {
	t.Helper()
	for _, path := range []string{
		"vaults", "vaults/" + canary + "vault/credentials", "vaults/" + canary + "vault/sources", "agents", "agents/" + canary + "agent/policy", "sandboxes", "approvals", "tokens", "audit",
	} {
		text += v.Call(t, "GET", path, nil).Body + "\n"
	}
	return text
}

// names are what stands for each parameter of a path.
func (v victim) names() map[string]string {
	return map[string]string{
		"{vault}": canary + "vault", "{credential}": canary + "credential", "{source}": canary + "source", "{agent}": canary + "agent",
		"{sandbox}": v.sandbox, "{approval}": v.approval, "{token}": canary + "token",
	}
}

func fill(path, team string, names map[string]string) string {
	path = strings.ReplaceAll(path, "{team}", team)
	for parameter, name := range names {
		path = strings.ReplaceAll(path, parameter, name)
	}
	return path
}

// TestTeamsNeverMeet calls every operation with every role of one team about
// another's things: with the other's name, and with its own and the other's ids. The
// answers are those about things that are not there.
func TestTeamsNeverMeet(t *testing.T) {
	theirs := newVictim(t)
	before := theirs.all(t)
	var ids []string
	for _, op := range operations(t) {
		if !admin.OpenToAll()[op.id] {
			ids = append(ids, op.id)
		}
	}
	slices.Sort(ids)
	if table := slices.Sorted(maps.Keys(meetings)); !slices.Equal(ids, table) {
		t.Fatalf("operations %q\nmeetings of %q", ids, table)
	}
	nothing := map[string]string{}
	for parameter := range theirs.names() {
		nothing[parameter] = "nothing-" + strings.Trim(parameter, "{}")
	}
	nothing["{sandbox}"], nothing["{approval}"] = store.NewID(), store.NewID()
	for _, op := range operations(t) {
		if admin.OpenToAll()[op.id] {
			continue
		}
		for _, role := range []control.Role{control.RoleViewer, control.RoleMember, control.RoleAdmin, control.RoleOwner} {
			m := meetings[op.id]
			mine := plane.NewTeam(t)
			thief := token(t, mine, role)
			if strings.Contains(op.path, "{team}") {
				real := ask(t, thief, op, theirs.Name, theirs.names(), m.body)
				none := ask(t, thief, op, "no-such-team", nothing, m.body)
				if real.Status != 404 || plain(real.Body, theirs.Name, theirs.names()) != plain(none.Body, "no-such-team", nothing) {
					t.Errorf("%s as %s in another team: %d %s; in one that is not there: %d %s", op.id, role, real.Status, real.Body, none.Status, none.Body)
				}
			}
			want := m.found
			if !enough(role, op.id) {
				want = 403
			}
			none := ask(t, thief, op, mine.Name, nothing, m.body)
			if want < 300 && m.body != nil { // it is there now
				mine = plane.NewTeam(t)
				thief = token(t, mine, role)
			}
			real := ask(t, thief, op, mine.Name, theirs.names(), m.body)
			if real.Status != want || none.Status != want {
				t.Errorf("%s as %s: %d %s; of what is not there: %d", op.id, role, real.Status, real.Body, none.Status)
			}
			if want == 404 && plain(real.Body, mine.Name, theirs.names()) != plain(none.Body, mine.Name, nothing) {
				t.Errorf("%s as %s answers\n%s\nbut to what is not there\n%s", op.id, role, real.Body, none.Body)
			}
			theirs.silent(t, op, m.body, real)
		}
	}
	if after := theirs.all(t); after != before {
		t.Errorf("the other team has changed:\n%s\n%s", before, after)
	}
}

func ask(t *testing.T, token string, op operation, team string, names map[string]string, body map[string]any) controltest.Response {
	t.Helper()
	path, header := fill(op.path, team, names), http.Header{"If-Match": {"*"}}
	if body == nil {
		return plane.DoWith(t, token, op.method, path, nil, header)
	}
	return plane.DoWith(t, token, op.method, path, body, header)
}

// plain is an answer without the names that were asked for, and what no two answers share.
func plain(body, team string, names map[string]string) string {
	body = strings.ReplaceAll(body, team, "{team}")
	for parameter, name := range names {
		body = strings.ReplaceAll(body, name, parameter)
	}
	var p map[string]any
	if json.Unmarshal([]byte(body), &p) == nil {
		delete(p, "request_id")
		delete(p, "instance")
	}
	return fmt.Sprint(p)
}

// silent: an answer has nothing of the victim's that the request did not say itself.
func (v victim) silent(t *testing.T, op operation, body map[string]any, r controltest.Response) {
	t.Helper()
	answer := r.Body
	for _, said := range []string{fill(op.path, "", v.names()), fmt.Sprint(body)} {
		for _, name := range v.names() {
			if strings.Contains(said, name) {
				answer = strings.ReplaceAll(answer, name, "")
			}
		}
	}
	answer = strings.ReplaceAll(answer, canary+"team", "")
	for _, secret := range []string{canary, v.Name, v.ID, v.sandbox} {
		if strings.Contains(answer, secret) {
			t.Errorf("%s tells %q: %s", op.id, secret, r.Body)
		}
	}
}

func enough(role control.Role, operation string) bool {
	roles := []control.Role{control.RoleViewer, control.RoleMember, control.RoleAdmin, control.RoleOwner}
	return slices.Index(roles, role) >= slices.Index(roles, admin.LeastRoles()[operation])
}
