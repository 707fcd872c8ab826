package admin_test

import (
	"fmt"
	"testing"

	"sallyport/control"
)

// TestTeamCredentials: those of every vault are listed once each, page by page, in an order
// that the names' characters do not upset.
func TestTeamCredentials(t *testing.T) {
	team := plane.NewTeam(t)
	var want []string
	for _, vault := range []string{"a", "a-b", "a.b", "b"} {
		team.Must(t, "POST", "vaults", map[string]any{"name": vault}, nil)
		for _, name := range []string{"one", "two"} {
			team.Must(t, "POST", "vaults/"+vault+"/credentials", map[string]any{
				"name": name, "hosts": []string{name + ".example.com"}, "secret": "0123456789abcdef",
			}, nil)
			want = append(want, vault+"/"+name)
		}
	}
	for limit := 1; limit <= 3; limit++ {
		seen := map[string]int{}
		for after := ""; ; {
			var page struct {
				Items []control.Credential
				Next  string
			}
			team.Must(t, "GET", fmt.Sprintf("credentials?limit=%d&after=%s", limit, after), nil, &page)
			for _, c := range page.Items {
				seen[c.Vault+"/"+c.Name]++
			}
			if after = page.Next; after == "" {
				break
			}
		}
		for _, name := range want {
			if seen[name] != 1 {
				t.Errorf("by %d, %s is listed %d times", limit, name, seen[name])
			}
		}
		if len(seen) != len(want) {
			t.Errorf("by %d: %v", limit, seen)
		}
	}
	var due struct{ Items []control.Credential }
	team.Must(t, "GET", "credentials?due=true", nil, &due)
	if len(due.Items) != 0 {
		t.Errorf("due are %v", due.Items)
	}
}
