package exchange

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"sallyport/control"
)

// Kind is an auth kind: what its credentials say, how their secret looks, and what
// becomes of it.
type Kind struct {
	Settings []Setting
	// Check reports what is wrong with a credential beside its single settings; nil: nothing.
	Check func(c control.Credential) error
	// CheckSecret reports why a secret can't be one of c. It never quotes it.
	CheckSecret func(c control.Credential, secret control.Secret) error
	// Exchange gives what is injected. It shares no memory with secret and does not
	// keep it. A kind that is not Remote has no use for client.
	Exchange func(ctx context.Context, client *http.Client, c control.Credential, secret control.Secret) (Minted, error)
	// Remote is a kind whose Exchange asks another server: what it gives is kept and
	// shared until it expires, and it must say when it does.
	Remote bool
	// Rotates is a Remote kind whose Exchange may use the secret up and give another in
	// its place. One is made at a time, in all replicas.
	Rotates bool
}

// Setting is one of the settings of a kind.
type Setting struct {
	Name     string
	Required bool
	Check    func(value string) error // nil: any text
	Steers   bool                     // it says where the secret, or what proves it, is sent
}

const maxSetting = 4096 // bytes of a setting's value

// kinds are all there are.
func kinds() map[control.Auth]Kind {
	return map[control.Auth]Kind{
		control.AuthToken:        token(),
		control.AuthBasic:        basic(),
		control.AuthOAuthClient:  oauthClient(),
		control.AuthOAuthRefresh: oauthRefresh(),
		control.AuthJWTBearer:    jwtBearer(),
		control.AuthGoogle:       google(),
		control.AuthGitHubApp:    githubApp(),
		control.AuthSigV4:        sigV4(time.Now),
		control.AuthHMAC:         hmacKey(),
		control.AuthClientCert:   clientCert(time.Now),
	}
}

// Kinds are the names of all kinds.
func Kinds() []string {
	var names []string
	for name := range kinds() {
		names = append(names, string(name))
	}
	slices.Sort(names)
	return names
}

func (x *Exchanger) kind(c control.Credential) (Kind, error) {
	kind, ok := x.kinds[c.Auth]
	if !ok {
		return kind, control.Errorf(control.CodeInvalid, "there is no auth kind %q here; there are %s", c.Auth, strings.Join(Kinds(), ", "))
	}
	return kind, nil
}

// Check reports what is wrong with a credential's auth kind and settings.
func (x *Exchanger) Check(c control.Credential) error {
	kind, err := x.kind(c)
	if err != nil {
		return err
	}
	if c.Username != "" && c.Auth != control.AuthBasic {
		return control.Errorf(control.CodeInvalid, "a username is for basic authentication; this credential's auth is %s", c.Auth)
	}
	if err := CheckSettings("auth "+string(c.Auth), kind.Settings, c.Settings); err != nil {
		return err
	}
	if c.From != nil && kind.Rotates {
		return control.Errorf(control.CodeInvalid, "auth %s puts a new secret in the place of the old, and a source is only read: store the secret here", c.Auth)
	}
	if kind.Check == nil {
		return nil
	}
	return kind.Check(c)
}

// CheckSettings reports what is wrong with the settings that a what is given.
func CheckSettings(what string, known []Setting, given control.Settings) error {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		value := given[name]
		at := slices.IndexFunc(known, func(s Setting) bool { return s.Name == name })
		switch {
		case at < 0:
			return control.Errorf(control.CodeInvalid, "%s has no setting %q; %s", what, name, takes(known))
		case value == "":
			return control.Errorf(control.CodeInvalid, "the setting %s is empty; leave it out if it is not meant", name)
		case len(value) > maxSetting:
			return control.Errorf(control.CodeInvalid, "the setting %s is longer than %d bytes", name, maxSetting)
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
			return control.Errorf(control.CodeInvalid, "the setting %s has a control character", name)
		case known[at].Check == nil:
			continue
		}
		if err := known[at].Check(value); err != nil {
			return control.Errorf(control.CodeInvalid, "the setting %s: %v", name, err)
		}
	}
	for _, s := range known {
		if s.Required && given[s.Name] == "" {
			return control.Errorf(control.CodeInvalid, "%s needs the setting %s; %s", what, s.Name, takes(known))
		}
	}
	return nil
}

// CheckChange reports why settings can't be changed under a secret that stays: it would
// be sent to a server of whoever changes them, and nobody gets to see a secret that was
// stored.
func (x *Exchanger) CheckChange(before, after control.Credential) error {
	kind, err := x.kind(after)
	if err != nil {
		return err
	}
	for _, s := range kind.Settings {
		if s.Steers && before.Settings[s.Name] != after.Settings[s.Name] {
			return control.Errorf(control.CodeInvalid, "the setting %s says where the secret is sent, so it stays with the secret: store another credential", s.Name)
		}
	}
	return nil
}

// takes says which settings there are.
func takes(known []Setting) string {
	if len(known) == 0 {
		return "it takes none"
	}
	names := make([]string, len(known))
	for i, s := range known {
		names[i] = s.Name
		if s.Required {
			names[i] += " (needed)"
		}
	}
	return "it takes " + strings.Join(names, ", ")
}

// CheckSecret reports why a secret can't be the one of c, whose settings are
// right. The message never holds the value.
func (x *Exchanger) CheckSecret(c control.Credential, secret control.Secret) error {
	kind, err := x.kind(c)
	if err != nil {
		return err
	}
	if err := control.CheckLength(secret); err != nil {
		return err
	}
	return kind.CheckSecret(c, secret)
}

// Weakness says what a person who stores a secret should know, or nothing.
func Weakness(c control.Credential, secret control.Secret) string {
	switch {
	case c.Auth.Sent() || c.Auth == control.AuthHMAC:
		return control.Weakness(secret)
	case c.Auth == control.AuthClientCert:
		return certificateEnds(secret, time.Now())
	}
	return ""
}
