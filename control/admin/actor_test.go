package admin_test

import (
	"testing"

	"sallyport/control"
)

// TestTokensAreToldApart: a team can't have its acts taken for those of the installation's
// token of the same name.
func TestTokensAreToldApart(t *testing.T) {
	team := plane.NewTeam(t)
	var made struct{ Value string }
	team.Must(t, "POST", "tokens", map[string]any{"name": "owner", "role": control.RoleOwner}, &made)
	team.Must(t, "POST", "vaults", map[string]any{"name": "by-the-installation"}, nil)
	plane.Do(t, made.Value, "POST", team.Path("vaults"), map[string]any{"name": "by-the-team"}).Into(t, 201, nil)
	events := team.Events(t)
	if theirs, ours := events[0], events[1]; theirs.Actor != "token:"+team.Name+"/owner" || ours.Actor != "token:owner" {
		t.Errorf("of the team's token: %q; of the installation's: %q", theirs.Actor, ours.Actor)
	}
}
