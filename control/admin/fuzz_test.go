package admin_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"sallyport/control"
	"sallyport/control/admin"
)

// A body with a secret is read as JSON says, or refused in words that are not its
// own; and nothing that it was read into prints the secret.
func FuzzCredentialBody(f *testing.F) {
	const canary = "sk_live_CaNaRy0123456789"
	for _, body := range []string{
		`{"name":"x","service":"stripe","secret":"%s"}`, `{"name":"x","secret":"%s\ud83d\ude00"}`, `{"name":"x","secret":"%s\ud800"}`, `{"secret":["%s"]}`, `["%s"]`, `"%s"`, `{"%s":1}`,
		`{"name":"x","secret":"%s","secret":"other"}`, `{"secret":"%s"} {}`, `{"inject":["header:A: %s\r\n"],"secret":"s"}`, `{"auth":"%s"}`, `{"stray":1,"secret":"%s"`, `{"hosts":["%s"],"Secret":"x"}`, `{"secret":"\u00zz%s"}`,
	} {
		f.Add(fmt.Appendf(nil, body, canary), "application/json")
	}
	f.Add([]byte(`{}`), "application/json; charset=utf-8")
	f.Add([]byte(`a=b`), "application/x-www-form-urlencoded")
	f.Fuzz(func(t *testing.T, body []byte, mediaType string) {
		secret, printed, err := admin.DecodeCredential(body, mediaType)
		if err != nil {
			if code := control.CodeOf(err); code != control.CodeInvalid {
				t.Fatalf("%q is refused with %q: %v", body, code, err)
			}
			// The rules of a credential are no secret, and quoted.
			if strings.Contains(err.Error(), canary) && !strings.Contains(err.Error(), "inject rule") {
				t.Fatalf("%q is quoted: %v", body, err)
			}
			return
		}
		var plain struct{ Secret string }
		if err := json.Unmarshal(body, &plain); err != nil || plain.Secret != secret {
			t.Fatalf("%q has the secret %q, not %q, %v", body, plain.Secret, secret, err)
		}
		if strings.Contains(secret, canary) && strings.Contains(printed, secret) && strings.Count(string(body), canary) == 1 {
			t.Fatalf("%q prints as %q", body, printed)
		}
	})
}
