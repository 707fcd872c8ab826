package admin_test

import (
	"fmt"
	"strings"
	"testing"

	"sallyport/control"
)

// What signs is not sent, and what is sent does not sign.
func TestRulesOfSigningKinds(t *testing.T) {
	team := plane.NewTeam(t)
	team.Must(t, "POST", "vaults", map[string]any{"name": "v"}, nil)
	const hmac = `"auth": "hmac", "settings": {"algorithm": "sha256", "string_to_sign": "{{timestamp}}.{{body}}"}`
	const aws = `"auth": "sigv4", "settings": {"access_key_id": "AKIAEXAMPLE", "region": "eu-west-1", "service": "s3"}`
	for n, tc := range []struct{ body, want string }{
		{aws, ""},
		{aws + `, "inject": ["sigv4", "default:X-Version: 1", "header:X-Team: a"]`, ""},
		{aws + `, "inject": ["bearer"]`, "does not go with auth sigv4"},
		{aws + `, "inject": ["sigv4", "query:key"]`, "does not go with auth sigv4"},
		{aws + `, "inject": ["sigv4", "header:Authorization: x"]`, "the same place"},
		{aws + `, "inject": ["header:X-Team: a"]`, "needs the inject rule sigv4"},
		{aws + `, "inject": ["sigv4", "header:X-S: {{signature:hex}}"]`, "does not go with auth sigv4"},
		{aws + `, "allow_websocket": true`, "WebSocket"},
		{`"auth": "sigv4", "settings": {"access_key_id": "AKIAEXAMPLE"}`, "give the settings region and service"},
		{`"auth": "sigv4", "settings": {"region": "a", "service": "b"}`, "access_key_id"},
		{hmac, "header:X-Signature"},
		{hmac + `, "inject": ["header:X-Signature: t={{timestamp}},v1={{signature:hex}}", "header:X-Nonce: {{nonce}}"]`, ""},
		{hmac + `, "inject": ["header:X-Signature: {{signature:hex}}", "header:X-Key: {{token}}"]`, "does not go with auth hmac"},
		{hmac + `, "inject": ["header:X-Nonce: {{nonce}}"]`, "needs an inject rule with the signature"},
		{strings.Replace(hmac, "sha256", "sha1", 1) + `, "inject": ["header:X-Signature: {{signature:hex}}"]`, "broken"},
		{strings.Replace(hmac, "{{body}}", "{{bodi}}", 1) + `, "inject": ["header:X-Signature: {{signature:hex}}"]`, "{{bodi}} is none of"},
		{`"inject": ["header:X-Signature: {{signature:hex}}"]`, "goes with auth sigv4, hmac or client_cert"},
		{`"inject": ["sigv4"]`, "goes with auth sigv4, hmac or client_cert"},
		{`"inject": ["client_cert"]`, "goes with auth sigv4, hmac or client_cert"},
		{`"auth": "client_cert"`, "in PEM"},
		{`"mints": ["capture POST /t json:/a inject=sigv4"]`, "inject"},
		{`"mints": ["capture POST /t json:/a inject=header:A: {{signature:hex}}"]`, "inject"},
	} {
		body := fmt.Sprintf(`{"name": "c%d", "hosts": ["h%d.example.com"], "secret": "s3cret-s3cret-s3cret", %s}`, n, n, tc.body)
		r := team.Call(t, "POST", "vaults/v/credentials", body)
		if tc.want == "" && r.Status != 201 || tc.want != "" && (r.Status != 422 || !strings.Contains(r.Body, tc.want)) {
			t.Errorf("%s: %d %s, want %s", tc.body, r.Status, r.Body, tc.want)
		}
	}
	var c control.Credential
	team.Must(t, "GET", "vaults/v/credentials/c0", nil, &c)
	if c.Auth != control.AuthSigV4 || c.Settings["region"] != "eu-west-1" || fmt.Sprint(c.Inject) != "[sigv4]" {
		t.Errorf("stored %+v", c)
	}
	if r := team.Call(t, "PATCH", "vaults/v/credentials/c0", `{"auth": "token", "settings": {}}`); r.Status != 422 {
		t.Errorf("a signing key became a token that is sent: %d %s", r.Status, r.Body)
	}
}

// A region's endpoint of S3 is on the public suffix list, since buckets have names
// below it. It is a host all the same, and so is a bucket's; all buckets are none.
func TestEndpointThatIsAPublicSuffix(t *testing.T) {
	team := plane.NewTeam(t)
	team.Must(t, "POST", "vaults", map[string]any{"name": "v"}, nil)
	team.Must(t, "POST", "vaults/v/credentials", map[string]any{
		"name": "s3", "auth": "sigv4", "settings": map[string]string{"access_key_id": "AKIAIOSFODNN7EXAMPLE"}, "secret": strings.Repeat("k", 40),
		"hosts": []string{"s3.eu-west-1.amazonaws.com", "bucket.s3.eu-west-1.amazonaws.com"},
	}, nil)
}
