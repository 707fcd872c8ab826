package admin_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/control"
)

// A rotation over the API, while a sidecar fetches.
func TestRotateKeys(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_rotated_keys")
	sidecar := team.Join(t)
	before := ledger(t, team)
	var started control.KeyRotation
	plane.Do(t, plane.Owner, "POST", "/v1/keys/rotate", map[string]any{"new_data_keys": true}).Into(t, 202, &started)
	for deadline := time.Now().Add(time.Minute); ; {
		if m, err := sidecar.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); err != nil || string(m.Token) != "sk_live_rotated_keys" {
			t.Fatalf("fetched during the rotation: %v", err)
		}
		var status control.KeyStatus
		plane.Do(t, plane.Owner, "GET", "/v1/keys", nil).Into(t, 200, &status)
		if status.Rotation == nil || status.Rotation.ID != started.ID {
			t.Fatalf("status %+v", status)
		}
		if status.Rotation.FinishedAt != nil {
			if len(status.DataKeys) != 1 || status.DataKeys[0].KEK != status.KEK || status.Rotation.Remaining != 0 {
				t.Errorf("status %+v of %+v", status, status.Rotation)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not end: %+v", status.Rotation)
		}
		time.Sleep(150 * time.Millisecond) // ten fetches a second are allowed
	}
	if m, err := sidecar.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); err != nil || string(m.Token) != "sk_live_rotated_keys" {
		t.Errorf("fetched after the rotation: %v", err)
	}
	var kinds []string
	for _, e := range fresh(t, team, before, "") {
		if strings.HasPrefix(e.Kind, "key.") {
			kinds = append(kinds, e.Kind+" "+e.Actor)
		}
	}
	slices.Sort(kinds)
	if got := strings.Join(kinds, ", "); got != "key.rewrap system, key.rewrap system, key.rotate token:owner, key.rotated system" {
		t.Errorf("events %s", got)
	}
	var rotated control.Rotation
	team.Must(t, "POST", "vaults/v/credentials/stripe/rotate", map[string]any{"secret": "sk_live_second"}, &rotated)
	if rotated.Version != 2 {
		t.Errorf("under the new data key: %+v", rotated)
	}
}
