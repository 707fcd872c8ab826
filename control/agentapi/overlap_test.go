package agentapi_test

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sallyport/control"
	"sallyport/control/api"
)

// The version before is handed out while it overlaps, never beyond, and no other is.
func TestFetchOverlap(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_canary_1")
	s := team.Join(t)
	rotate := func(secret, overlap string) (r control.Rotation) {
		t.Helper()
		team.Must(t, "POST", "vaults/v/credentials/stripe/rotate", map[string]any{"secret": secret, "overlap": overlap}, &r)
		return r
	}
	fetch := func(version uint64) (string, error) {
		m, err := s.Fetch(t.Context(), c.ID, version, "api.stripe.com")
		return string(m.Token), err
	}
	refused := func(what string, version uint64) {
		t.Helper()
		if token, err := fetch(version); connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("%s: %q %v", what, token, err)
		}
	}
	if r := rotate("sk_live_canary_2", "10m"); r.OverlapUntil == nil || r.Version != 2 {
		t.Errorf("the rotation says %+v", r)
	}
	lease, err := s.Client.Fetch(t.Context(), connect.NewRequest(&api.FetchRequest{CredentialId: c.ID, Version: 1, Host: "api.stripe.com", Limits: true}))
	if err != nil || lease.Msg.GetVersion() != 1 || time.Until(lease.Msg.GetHardExpiry().AsTime()) > 10*time.Minute {
		t.Errorf("a lease of the version before: %v, %v", lease, err)
	}
	if token, err := fetch(1); token != "sk_live_canary_1" || err != nil {
		t.Errorf("the version before: %q %v", token, err)
	}
	if token, err := fetch(2); token != "sk_live_canary_2" || err != nil {
		t.Errorf("the current one: %q %v", token, err)
	}
	_, first := watch(t, s)
	if f := first.GetBindings()[0].GetFallback(); f.GetVersion() != 1 || time.Until(f.GetUntil().AsTime()) > 10*time.Minute {
		t.Errorf("the binding says %v", f)
	}
	refused("one that there is not", 3)
	if _, err := s.Client.Fetch(t.Context(), connect.NewRequest(&api.FetchRequest{CredentialId: c.ID, Version: 1, Host: "other.example.com"})); err == nil {
		t.Error("for another host")
	}

	// The next rotation ends it, as does who is told to; time does for all.
	rotate("sk_live_canary_3", "10m")
	refused("two versions before", 1)
	if token, err := fetch(2); token != "sk_live_canary_2" || err != nil {
		t.Errorf("the version before: %q %v", token, err)
	}
	team.Must(t, "DELETE", "vaults/v/credentials/stripe/overlap", nil, nil)
	refused("once it was ended", 2)
	if r := team.Call(t, "DELETE", "vaults/v/credentials/stripe/overlap", nil); r.Status != 404 {
		t.Errorf("ended twice: %d %s", r.Status, r.Body)
	}
	rotate("sk_live_canary_4", "")
	refused("without an overlap", 3)
	rotate("sk_live_canary_5", "1s")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		if _, err := fetch(4); connect.CodeOf(err) == connect.CodeNotFound {
			break
		}
		time.Sleep(150 * time.Millisecond) // ten a second are allowed
	}
	refused("beyond its time", 4)

	// A sandbox that was removed gets neither.
	rotate("sk_live_canary_6", "10m")
	team.Must(t, "DELETE", "sandboxes/"+s.ID, nil, nil)
	if _, err := fetch(5); err == nil {
		t.Error("a sandbox that was removed got the version before")
	}

	for what, body := range map[string]map[string]any{
		"too long": {"secret": "sk_live_canary_7", "overlap": "25h"}, "too short": {"secret": "sk_live_canary_7", "overlap": "1ms"}, "no time": {"secret": "sk_live_canary_7", "overlap": "soon"},
	} {
		if r := team.Call(t, "POST", "vaults/v/credentials/stripe/rotate", body); r.Status != 422 {
			t.Errorf("%s: %d %s", what, r.Status, r.Body)
		}
	}
	key := map[string]any{"name": "k", "hosts": []string{"hooks.example.com"}, "auth": "hmac", "inject": []string{"header:X-S: {{signature:hex}}"}, "secret": "a-key-of-some-length-0123456789",
		"settings": map[string]string{"algorithm": "sha256", "string_to_sign": "{{body}}"}}
	team.Must(t, "POST", "vaults/v/credentials", key, nil)
	if r := team.Call(t, "POST", "vaults/v/credentials/k/rotate", map[string]any{"secret": "a-key-of-some-length-9876543210", "overlap": "10m"}); r.Status != 422 {
		t.Errorf("of a key that signs: %d %s", r.Status, r.Body)
	}
}
