package exchange_test

import (
	"testing"

	"sallyport/control"
	"sallyport/control/exchange"
)

func TestMaterial(t *testing.T) {
	for _, tc := range []struct {
		name     string
		c        control.Credential
		username string
		code     control.Code
	}{
		{"a token", control.Credential{Auth: control.AuthToken}, "", ""},
		{"a token whose credential has a username", control.Credential{Auth: control.AuthToken, Username: "x"}, "", ""},
		{"basic", control.Credential{Auth: control.AuthBasic, Username: "bob"}, "bob", ""},
		{"basic without a username", control.Credential{Auth: control.AuthBasic}, "", control.CodeInvalid},
		{"a colon in the username", control.Credential{Auth: control.AuthBasic, Username: "bob:x"}, "", control.CodeInvalid},
		{"a line break in the username", control.Credential{Auth: control.AuthBasic, Username: "bob\r\nX: y"}, "", control.CodeInvalid},
		{"an unknown kind", control.Credential{Auth: "magic"}, "", control.CodeInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			secret := control.Secret("s3cret")
			m, err := exchange.Material(tc.c, secret)
			if control.CodeOf(err) != tc.code {
				t.Fatalf("error %v, want code %q", err, tc.code)
			}
			if err != nil {
				return
			}
			secret.Wipe()
			if string(m.Token) != "s3cret" || m.Username != tc.username {
				t.Error("the material is wrong, or shares memory with the secret")
			}
		})
	}
}
