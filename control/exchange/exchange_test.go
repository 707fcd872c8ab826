package exchange_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"sallyport/control"
	"sallyport/control/exchange"
)

// secret is one that is stored nowhere.
type secret control.Secret

func (s secret) Open(context.Context) (control.Secret, error) {
	return control.Secret(slices.Clone(s)), nil
}

func (s secret) Team() string { return "" }

func (s secret) Alone(ctx context.Context, use func(context.Context, control.Secret, exchange.Minted) (exchange.Minted, error)) (exchange.Minted, error) {
	return use(ctx, control.Secret(slices.Clone(s)), exchange.Minted{})
}

var log = slog.New(slog.DiscardHandler)

// local is an Exchanger that reaches nobody.
func local(t *testing.T) *exchange.Exchanger {
	x := exchange.New(exchange.NewClient(exchange.Reach{}), log)
	t.Cleanup(x.Close)
	return x
}

func TestMaterial(t *testing.T) {
	x := local(t)
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
			m, expiry, err := x.Material(t.Context(), tc.c, secret("s3cret"))
			if control.CodeOf(err) != tc.code {
				t.Fatalf("error %v, want code %q", err, tc.code)
			}
			if err != nil {
				return
			}
			if string(m.Token) != "s3cret" || m.Username != tc.username || !expiry.IsZero() {
				t.Error("the material is wrong, or shares memory with the secret, which was wiped")
			}
		})
	}
}

func TestSettingsAreTheKinds(t *testing.T) {
	x := local(t)
	for _, tc := range []struct {
		name string
		c    control.Credential
		want string // of the error; empty: none
	}{
		{"none", control.Credential{Auth: control.AuthToken}, ""},
		{"one that it does not have", control.Credential{Auth: control.AuthToken, Settings: control.Settings{"scope": "x"}}, `auth token has no setting "scope"; it takes none`},
		{"an unknown kind", control.Credential{Auth: "magic"}, "there are basic, "},
		{"a username of a token", control.Credential{Auth: control.AuthToken, Username: "bob"}, "a username is for basic"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := x.Check(tc.c)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("error %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v, want one that says %q", err, tc.want)
			}
		})
	}
}
