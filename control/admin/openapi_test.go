package admin_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sallyport/control"
	"sallyport/control/admin"
)

// operation is one of the OpenAPI document.
type operation struct{ id, method, path string }

func document(t *testing.T) map[string]any {
	t.Helper()
	var doc map[string]any
	plane.Do(t, "", "GET", "/openapi.json", nil).Into(t, 200, &doc)
	return doc
}

func operations(t *testing.T) []operation {
	t.Helper()
	var all []operation
	for path, methods := range document(t)["paths"].(map[string]any) {
		for method, op := range methods.(map[string]any) {
			all = append(all, operation{op.(map[string]any)["operationId"].(string), strings.ToUpper(method), path})
		}
	}
	return all
}

func TestEveryOperationHasARole(t *testing.T) {
	var ids []string
	for _, op := range operations(t) {
		ids = append(ids, op.id)
	}
	slices.Sort(ids)
	if table := slices.Sorted(maps.Keys(admin.LeastRoles())); !slices.Equal(ids, table) {
		t.Errorf("operations %q\nroles for %q", ids, table)
	}
	for id := range admin.EveryTeam() {
		if !slices.Contains(ids, id) {
			t.Errorf("%s is no operation", id)
		}
	}
}

var parameter = regexp.MustCompile(`\{[a-z]+\}`)

// Every operation, with every role: one too low gets 403, whatever else is wrong
// with the request; a role that is enough gets past that.
func TestRoles(t *testing.T) {
	team := plane.NewTeam(t)
	roles := []control.Role{control.RoleViewer, control.RoleMember, control.RoleAdmin, control.RoleOwner}
	for _, op := range operations(t) {
		if admin.OpenToAll()[op.id] {
			continue
		}
		path := parameter.ReplaceAllString(strings.ReplaceAll(op.path, "{team}", team.Name), "none")
		if r := plane.Do(t, "", op.method, path, nil); r.Status != 401 {
			t.Errorf("%s without a token: %d %s", op.id, r.Status, r.Body)
		}
		if r := plane.Do(t, admin.NewToken(), op.method, path, nil); r.Status != 401 {
			t.Errorf("%s with an unknown token: %d %s", op.id, r.Status, r.Body)
		}
		least := slices.Index(roles, admin.LeastRoles()[op.id])
		for i, role := range roles {
			// No body: an operation that needs one stops there, having done nothing.
			r := plane.Do(t, token(t, nil, role), op.method, path, nil)
			if refused := r.Status == 403; refused != (i < least) {
				t.Errorf("%s as %s: %d %s", op.id, role, r.Status, r.Body)
			}
			ofTeam := plane.Do(t, token(t, team, role), op.method, path, nil)
			if refused := ofTeam.Status == 403; refused != (i < least || admin.EveryTeam()[op.id]) {
				t.Errorf("%s as %s of the team: %d %s", op.id, role, ofTeam.Status, ofTeam.Body)
			}
		}
	}
}

// The document promises that secrets only go in.
func TestDocumentShowsNoSecret(t *testing.T) {
	doc := document(t)
	if v := doc["openapi"]; v != "3.1.0" {
		t.Errorf("version %v", v)
	}
	bearing := regexp.MustCompile(`(?i)secret|password|private|ciphertext|join_token|^value$|hash`)
	handedOut := map[string]bool{"create-sandbox join_token": true, "create-token value": true, "create-global-token value": true,
		"rotate-token value": true, "create-session value": true, "create-token-session value": true, "rotate-global-token value": true,
		"follow-events hash": true} // of the chain, and no secret
	seen := make(map[string]bool)
	for _, methods := range doc["paths"].(map[string]any) {
		for _, op := range methods.(map[string]any) {
			op := op.(map[string]any)
			walk(doc, op["responses"], map[string]bool{}, func(field string, schema map[string]any) {
				place := fmt.Sprint(op["operationId"], " ", field)
				if (bearing.MatchString(field) || schema["writeOnly"] == true) && !handedOut[place] {
					t.Errorf("the answer of %s has a field for a secret", place)
				}
				seen[place] = true
			})
		}
	}
	for place := range handedOut {
		if !seen[place] {
			t.Errorf("%s is not in the document: the walk sees too little", place)
		}
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	for _, schema := range []string{"ErrorModel", "ErrorDetail"} {
		if strings.Contains(string(raw), schema) {
			t.Errorf("the document has huma's %s", schema)
		}
	}
	if !strings.Contains(string(raw), `"writeOnly":true`) {
		t.Error("no field is write-only")
	}
}

// walk visits the properties below node, through references.
func walk(doc map[string]any, node any, visited map[string]bool, visit func(string, map[string]any)) {
	switch n := node.(type) {
	case map[string]any:
		if ref, ok := n["$ref"].(string); ok && !visited[ref] {
			visited[ref] = true
			name := strings.TrimPrefix(ref, "#/components/schemas/")
			walk(doc, doc["components"].(map[string]any)["schemas"].(map[string]any)[name], visited, visit)
		}
		if properties, ok := n["properties"].(map[string]any); ok {
			for field, schema := range properties {
				visit(field, schema.(map[string]any))
			}
		}
		for _, child := range n {
			walk(doc, child, visited, visit)
		}
	case []any:
		for _, child := range n {
			walk(doc, child, visited, visit)
		}
	}
}

// Generated clients need to know where the API is and what its errors look like.
func TestDocumentServesGenerators(t *testing.T) {
	doc := document(t)
	if servers := fmt.Sprint(doc["servers"]); servers != "[map[url:/]]" {
		t.Errorf("servers: %s", servers)
	}
	for path, methods := range doc["paths"].(map[string]any) {
		for method, op := range methods.(map[string]any) {
			responses := op.(map[string]any)["responses"].(map[string]any)
			for _, status := range []string{"4XX", "default"} {
				if said := fmt.Sprint(responses[status]); !strings.Contains(said, "#/components/schemas/Problem") {
					t.Errorf("%s %s answers %s with %s", method, path, status, said)
				}
			}
		}
	}
}
