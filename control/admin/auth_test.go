package admin_test

import (
	"strings"
	"testing"

	"sallyport/control"
)

// What a kind does not take is refused, when a credential is made and later.
func TestSettingsAreChecked(t *testing.T) {
	team := plane.NewTeam(t)
	team.Must(t, "POST", "vaults", map[string]any{"name": "v"}, nil)
	team.Must(t, "POST", "vaults/v/credentials", map[string]any{"name": "c", "hosts": []string{"api.example.com"}, "secret": "s3cret-s3cret-s3cret"}, nil)
	for _, tc := range []struct{ method, path, body, want string }{
		{"POST", "", `{"name": "d", "hosts": ["d.example.com"], "secret": "s3cret", "settings": {"scope": "x"}}`, `auth token has no setting \"scope\"; it takes none`},
		{"POST", "", `{"name": "d", "hosts": ["d.example.com"], "secret": "s3cret", "auth": "magic"}`, "there is no auth kind"},
		{"PATCH", "/c", `{"settings": {"scope": "x"}}`, "no setting"},
		{"PATCH", "/c", `{"auth": "basic"}`, "not known here"},
		{"PATCH", "/c", `{"settings": {}, "mints": []}`, "each is a change of its own"},
	} {
		if r := team.Call(t, tc.method, "vaults/v/credentials"+tc.path, tc.body); r.Status != 422 || !strings.Contains(r.Body, tc.want) {
			t.Errorf("%s %s: %d %s, want %s", tc.method, tc.body, r.Status, r.Body, tc.want)
		}
	}
	var c control.Credential
	team.Must(t, "PATCH", "vaults/v/credentials/c", map[string]any{"settings": map[string]string{}}, &c)
	if c.Version != 2 || c.Auth != control.AuthToken {
		t.Errorf("after a change of settings it is %+v, want version 2", c)
	}
}

// Whoever may change settings gets no secret by them: it is not sent to another server
// than the one that it was stored for.
func TestSettingsDoNotSteerAStoredSecret(t *testing.T) {
	team := plane.NewTeam(t)
	team.Must(t, "POST", "vaults", map[string]any{"name": "v"}, nil)
	for auth, secret := range map[string]string{"oauth_client": "s3cret-s3cret-s3cret", "oauth_refresh": `{"refresh_token": "r3fresh", "client_secret": "s3cret"}`} {
		settings := map[string]string{"token_url": "https://login.example.com/token", "client_id": "c"}
		name := strings.ReplaceAll(auth, "_", "-")
		team.Must(t, "POST", "vaults/v/credentials", map[string]any{
			"name": name, "hosts": []string{name + ".example.com"}, "auth": auth, "settings": settings, "secret": secret,
		}, nil)
		settings["scope"] = "read"
		team.Must(t, "PATCH", "vaults/v/credentials/"+name, map[string]any{"settings": settings}, nil)
		settings["token_url"] = "https://attacker.example.com/token"
		if r := team.Call(t, "PATCH", "vaults/v/credentials/"+name, map[string]any{"settings": settings}); r.Status != 422 || !strings.Contains(r.Body, "says where the secret is sent") {
			t.Errorf("%s: %d %s", auth, r.Status, r.Body)
		}
	}
}
