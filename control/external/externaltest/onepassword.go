package externaltest

import (
	"net/http"
	"regexp"
	"strings"
)

// FakeConnect is a 1Password Connect server with one vault, "Agents", and an item
// "Stripe live" in it, which its token may read.
type FakeConnect struct {
	Token string
	Key   string // the item's password
}

const (
	connectVault = "ftz4pm2xxwmwrsd7rjqn7grzfz"
	connectItem  = "wepiqdxdzncjtnvmv5fegud4qy"
)

var connectFilter = regexp.MustCompile(`^(name|title) eq "([^"]*)"$`)

// ServeHTTP implements http.Handler.
func (c *FakeConnect) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	wrong := func(status int, message string) {
		write(w, status, map[string]any{"status": status, "message": message})
	}
	vault := map[string]any{"id": connectVault, "name": "Agents", "attributeVersion": 1, "contentVersion": 7, "items": 1, "type": "USER_CREATED"}
	item := map[string]any{"id": connectItem, "title": "Stripe live", "version": 3, "vault": map[string]any{"id": connectVault}, "category": "LOGIN"}
	named := func(all map[string]any, attribute string) []any {
		filter := connectFilter.FindStringSubmatch(r.URL.Query().Get("filter"))
		if filter == nil || filter[1] != attribute || all[attribute] != filter[2] {
			return []any{}
		}
		return []any{all}
	}
	token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case !found:
		wrong(401, "Authentication: Missing token")
	case token != c.Token:
		wrong(401, "Authentication: Invalid token signature")
	case r.Method != http.MethodGet:
		wrong(405, "method not allowed")
	case r.URL.Path == "/v1/vaults":
		write(w, 200, named(vault, "name"))
	case r.URL.Path == "/v1/vaults/"+connectVault+"/items":
		write(w, 200, named(item, "title"))
	case r.URL.Path == "/v1/vaults/"+connectVault+"/items/"+connectItem:
		item["sections"] = []any{map[string]any{"id": "a", "label": "Live"}, map[string]any{"id": "b", "label": "Test"}}
		item["fields"] = []any{
			map[string]any{"id": "username", "type": "STRING", "purpose": "USERNAME", "label": "username", "value": "ops"},
			map[string]any{"id": "password", "type": "CONCEALED", "purpose": "PASSWORD", "label": "password", "value": c.Key},
			map[string]any{"id": "k1", "type": "CONCEALED", "label": "key", "value": "canary-live", "section": map[string]any{"id": "a"}},
			map[string]any{"id": "k2", "type": "CONCEALED", "label": "key", "value": "canary-test", "section": map[string]any{"id": "b"}},
		}
		write(w, 200, item)
	case strings.HasPrefix(r.URL.Path, "/v1/vaults/"):
		wrong(404, "vault or item not found")
	default:
		wrong(404, "not found")
	}
}
