package agentapi_test

import (
	"fmt"
	"testing"
	"time"

	"sallyport/control"
	"sallyport/control/controltest"
)

// TestRefreshWhileKeysAreReplaced: a refresh token is exchanged, and the next one stored,
// though the data key that it was read with was replaced before.
func TestRefreshWhileKeysAreReplaced(t *testing.T) {
	o := controltest.NewOAuth(t, 10*time.Minute)
	team := plane.NewTeam(t)
	secret := fmt.Sprintf(`{"refresh_token": %q, "client_secret": %q}`, o.Allow(t), controltest.ClientSecret)
	c := exchanged(t, team, control.AuthOAuthRefresh, client(o), secret)
	s := team.Join(t)
	bound, err := plane.Store.Bound(t.Context(), team.ID, s.ID, c.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	plane.Do(t, plane.Owner, "POST", "/v1/keys/rotate", map[string]any{"new_data_keys": true}).Into(t, 202, nil)
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		now, err := plane.Store.Bound(t.Context(), team.ID, s.ID, c.ID, 1)
		if err != nil {
			t.Fatal(err)
		}
		if now.Key.Version > bound.Key.Version {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the data key was not replaced")
		}
	}
	material, _, err := plane.Sidecars.Material(t.Context(), bound)
	if err != nil {
		t.Fatalf("by what was read before: %v", err)
	}
	material.Wipe()
	expire(t, c)
	if fetched(t, s, c.ID, 1) == "" {
		t.Error("the next refresh token is none")
	}
}
