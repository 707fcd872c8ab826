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
		{"PATCH", "/c", `{"auth": "magic"}`, "there is no auth kind"},
		{"PATCH", "/c", `{"auth": "token", "mints": []}`, "two requests"},
	} {
		if r := team.Call(t, tc.method, "vaults/v/credentials"+tc.path, tc.body); r.Status != 422 || !strings.Contains(r.Body, tc.want) {
			t.Errorf("%s %s: %d %s, want %s", tc.method, tc.body, r.Status, r.Body, tc.want)
		}
	}
	var c control.Credential
	team.Must(t, "PATCH", "vaults/v/credentials/c", map[string]any{"auth": "token"}, &c)
	if c.Version != 2 || c.Auth != control.AuthToken {
		t.Errorf("after a change of auth it is %+v, want version 2", c)
	}
}
