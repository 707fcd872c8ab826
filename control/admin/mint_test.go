package admin_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sallyport/control"
	"sallyport/control/admin"
)

func TestMints(t *testing.T) {
	team := plane.NewTeam(t)
	team.Must(t, "POST", "vaults", map[string]any{"name": "v"}, nil)
	var c control.Credential
	const rule = "capture POST /oauth/token json:/access_token hosts=API.example.com. ttl=/expires_in"
	const normal = "capture POST /oauth/token json:/access_token hosts=api.example.com ttl=/expires_in"
	team.Must(t, "POST", "vaults/v/credentials", map[string]any{"name": "x", "service": "stripe", "secret": "s3cret-of-x", "mints": []string{rule}}, &c)
	if fmt.Sprint(c.Mints) != "["+normal+"]" {
		t.Errorf("it has %v", c.Mints)
	}
	team.Must(t, "PATCH", "vaults/v/credentials/x", map[string]any{"mints": []string{"allow /**", rule}}, &c)
	if fmt.Sprint(c.Mints) != "[allow /** "+normal+"]" || c.Version != 1 || c.Name != "x" {
		t.Errorf("it is %+v", c)
	}
	var read control.Credential
	team.Must(t, "GET", "vaults/v/credentials/x", nil, &read)
	if fmt.Sprint(read.Mints) != fmt.Sprint(c.Mints) {
		t.Errorf("read again it has %v", read.Mints)
	}
	if !slices.ContainsFunc(team.Events(t), func(e control.Event) bool {
		return e.Kind == "credential.update" && e.Detail == "v/x: mints allow /**; "+normal
	}) {
		t.Errorf("the events are %+v", team.Events(t))
	}
	if r := team.Call(t, "PATCH", "vaults/v/credentials/x", `{"mints": []}`); r.Status != 200 || !strings.Contains(r.Body, `"mints":[]`) {
		t.Errorf("without rules: %d %s", r.Status, r.Body)
	}
	for body, want := range map[string]string{
		`{"mints": ["hide /x"]}`:                                             "begins with allow, refuse, strip or capture",
		`{"mints": ["refuse POST /x/../y"]}`:                                 "dot segment",
		`{"mints": ["refuse POST /**/y"]}`:                                   "stands alone",
		`{"mints": ["capture /x json:/a hosts=10.0.0.1"]}`:                   "an address is not a host name",
		`{"mints": ["capture /x json:/a hosts=*.co.uk"]}`:                    "public suffix",
		`{"mints": [` + strings.Repeat(`"refuse /x",`, 64) + `"refuse /x"]}`: "more than 64",
		`{"mints": [], "secret": "x"}`:                                       "not known here",
		`{}`:                                                                 "give mints",
		`{"mints": null}`:                                                    "give mints",
	} {
		if r := team.Call(t, "PATCH", "vaults/v/credentials/x", body); r.Status != 422 || !strings.Contains(r.Body, want) {
			t.Errorf("%s: %d %s, want %s", body, r.Status, r.Body, want)
		}
	}
	if r := team.Call(t, "PATCH", "vaults/v/credentials/none", `{"mints": []}`); r.Status != 404 {
		t.Errorf("one that is not there: %d", r.Status)
	}
	if r := plane.Do(t, token(t, team, control.RoleMember), "PATCH", team.Path("vaults/v/credentials/x"), `{"mints": []}`); r.Status != 403 {
		t.Errorf("a member: %d", r.Status)
	}
	if r := plane.Do(t, token(t, team, control.RoleViewer), "GET", "/v1/services?limit=2&after="+admin.Cursor("list-services", "sentry"), nil); !strings.Contains(r.Body, "refuse POST /v1/ephemeral_keys json:/secret") {
		t.Errorf("the services' own: %d %s", r.Status, r.Body)
	}
}
