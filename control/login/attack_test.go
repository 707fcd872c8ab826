package login

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"sallyport/control"
)

// hostile is an issuer that says what a test wants, or somebody who stands in its place.
type hostile struct {
	*httptest.Server
	key      *rsa.PrivateKey
	known    string // the issuer of its configuration
	token    func(issuer string) string
	userInfo map[string]any
	refusal  string // of the token endpoint
	asked    []string
}

func newHostile(t *testing.T) *hostile {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{key: key}
	h.Server = httptest.NewServer(h)
	h.known = h.URL
	t.Cleanup(h.Close)
	return h
}

func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.asked = append(h.asked, r.URL.Path)
	w.Header().Set("Content-Type", "application/json")
	var v any
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		v = map[string]any{
			"issuer": h.known, "authorization_endpoint": h.URL + "/auth", "token_endpoint": h.URL + "/token", "jwks_uri": h.URL + "/keys",
			"userinfo_endpoint": h.URL + "/userinfo", "device_authorization_endpoint": h.URL + "/device",
			"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"}, "scopes_supported": []string{"openid", "groups"},
		}
	case "/keys":
		v = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: h.key.Public(), KeyID: "k", Algorithm: "RS256", Use: "sig"}}}
	case "/token":
		if h.refusal != "" {
			w.WriteHeader(http.StatusBadRequest)
			v = map[string]any{"error": h.refusal, "error_description": "canary"}
			break
		}
		v = map[string]any{"access_token": "access", "token_type": "Bearer", "id_token": h.token(h.URL)}
	case "/userinfo":
		v = h.userInfo
	case "/device":
		v = map[string]any{"device_code": "d", "user_code": "u", "verification_uri": h.URL, "expires_in": 60}
	}
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(err)
	}
}

const verifier = "0123456789012345678901234567890123456789012"

func (h *hostile) issuer(t *testing.T) *Issuer {
	t.Helper()
	i, err := New(Config{
		Issuer: h.URL, ClientID: "sallyport", Domains: []string{"example.com"}, GroupsClaim: "groups",
		Mappings: []Mapping{{"admins", control.Grant{Team: "a", Role: control.RoleAdmin}}, {"CN=x,OU=y", control.Grant{Role: control.RoleOwner}}},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// good are the claims of a login that is as it should be.
func good(issuer string) map[string]any {
	return map[string]any{
		"iss": issuer, "aud": "sallyport", "sub": "1", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
		"nonce": control.LoginNonce(verifier), "email": "alice@example.com", "email_verified": true, "groups": []string{"admins"},
	}
}

func sign(t *testing.T, key any, alg jose.SignatureAlgorithm, payload map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

// login ends a login for which the issuer gives the good claims, changed.
func (h *hostile) login(t *testing.T, changed map[string]any) (control.Person, error) {
	t.Helper()
	h.token = func(issuer string) string {
		all := good(issuer)
		maps.Copy(all, changed)
		for name, v := range changed {
			if v == nil {
				delete(all, name)
			}
		}
		return sign(t, h.key, jose.RS256, all)
	}
	return h.issuer(t).Code(t.Context(), "code", verifier, "http://127.0.0.1:1/callback")
}

func TestLogin(t *testing.T) {
	h := newHostile(t)
	who, err := h.login(t, nil)
	if err != nil || who.Email != "alice@example.com" || who.Subject != "1" || who.Issuer != h.URL || len(who.Grants) != 1 || who.Grants[0] != (control.Grant{Team: "a", Role: control.RoleAdmin}) {
		t.Fatalf("%+v, %v", who, err)
	}
	h.userInfo = map[string]any{"sub": "1", "email": "alice@example.com", "email_verified": "true", "groups": "CN=x,OU=y"}
	if who, err := h.login(t, map[string]any{"email": nil, "email_verified": nil, "groups": nil}); err != nil || who.Grants[0] != (control.Grant{Role: control.RoleOwner}) {
		t.Errorf("from UserInfo: %+v, %v", who, err)
	}
	if who, err := h.login(t, map[string]any{"aud": []string{"sallyport", "other"}, "azp": "sallyport"}); err != nil {
		t.Errorf("of two audiences: %+v, %v", who, err)
	}
}

// TestForgedTokens: an ID token that is not this issuer's, of this login, for us, now.
func TestForgedTokens(t *testing.T) {
	h := newHostile(t)
	for what, changed := range map[string]map[string]any{
		"another issuer":              {"iss": "https://issuer.example.com"},
		"no issuer":                   {"iss": nil},
		"another audience":            {"aud": "other"},
		"no audience":                 {"aud": nil},
		"two audiences, no azp":       {"aud": []string{"sallyport", "other"}},
		"made for another client":     {"aud": []string{"sallyport", "other"}, "azp": "other"},
		"azp of another":              {"azp": "other"},
		"expired":                     {"exp": time.Now().Add(-time.Hour).Unix()},
		"no expiry":                   {"exp": nil},
		"not good yet":                {"nbf": time.Now().Add(time.Hour).Unix()},
		"no nonce":                    {"nonce": nil},
		"the nonce of another login":  {"nonce": control.LoginNonce("another verifier")},
		"the challenge for the nonce": {"nonce": verifier},
		"no subject":                  {"sub": nil},
		"a subject with a space":      {"sub": "1 2"},
		"a subject of a line break":   {"sub": "1\nperson:root"},
	} {
		if who, err := h.login(t, changed); control.CodeOf(err) != control.CodeUnauthorized {
			t.Errorf("%s: %+v, %v", what, who, err)
		}
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(h.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for what, make := range map[string]func(claims map[string]any) string{
		"another key":       func(c map[string]any) string { return sign(t, other, jose.RS256, c) },
		"the public key":    func(c map[string]any) string { return sign(t, public, jose.HS256, c) },
		"the client's id":   func(c map[string]any) string { return sign(t, []byte(strings.Repeat("sallyport", 4)), jose.HS256, c) },
		"no algorithm":      unsigned(t, "none"),
		"NoNe":              unsigned(t, "NoNe"),
		"no signature":      unsigned(t, "RS256"),
		"nothing":           func(map[string]any) string { return "" },
		"no token":          func(map[string]any) string { return "a.b.c" },
		"claims of another": func(c map[string]any) string { return swapped(t, sign(t, h.key, jose.RS256, c)) },
	} {
		h.token = func(issuer string) string { return make(good(issuer)) }
		if who, err := h.issuer(t).Code(t.Context(), "code", verifier, "http://127.0.0.1:1/callback"); control.CodeOf(err) != control.CodeUnauthorized {
			t.Errorf("signed by %s: %+v, %v", what, who, err)
		}
	}
}

func unsigned(t *testing.T, alg string) func(map[string]any) string {
	return func(c map[string]any) string {
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		encode := base64.RawURLEncoding.EncodeToString
		return encode([]byte(`{"alg":"`+alg+`","kid":"k"}`)) + "." + encode(text) + "."
	}
}

// swapped is a token with the claims of somebody else under the signature.
func swapped(t *testing.T, token string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(text), "alice", "mallory", 1)))
	return strings.Join(parts, ".")
}

func TestEmailTricks(t *testing.T) {
	h := newHostile(t)
	h.userInfo = map[string]any{"sub": "1", "email": "alice@example.com", "email_verified": true, "groups": []string{"admins"}}
	for what, changed := range map[string]map[string]any{
		"unverified":              {"email_verified": false},
		"unverified, as a string": {"email_verified": "false"},
		"nothing said":            {"email_verified": nil},
		"null":                    {"email_verified": json.RawMessage("null")},
		"1":                       {"email_verified": 1},
		"a list":                  {"email_verified": []any{true}},
		// Verified is another address, of UserInfo.
		"verified elsewhere": {"email": "ceo@example.com", "email_verified": nil, "groups": nil},
	} {
		if who, err := h.login(t, changed); control.CodeOf(err) != control.CodeForbidden || !strings.Contains(err.Error(), "verif") {
			t.Errorf("%s: %+v, %v", what, who, err)
		}
	}
	for _, email := range []string{
		"alice@evil.com", "alice@example.com.evil.com", "alice@evilexample.com", "alice@sub.example.com", "alice@example.com@evil.com", "alice@evil.com@example.com",
		`"alice@example.com"@evil.com`, `"a b"@example.com`, "alice@evil.com\n@example.com", "alice@example.com\x00", "alice@exampl\u0435.com", "alice@example.com.", " alice@example.com",
		"alice@example.com <x@evil.com>", "alice/1@example.com", "@example.com", "alice@", "", strings.Repeat("a", 300) + "@example.com",
	} {
		if who, err := h.login(t, map[string]any{"email": email}); control.CodeOf(err) != control.CodeForbidden {
			t.Errorf("%q: %+v, %v", email, who, err)
		}
	}
	if who, err := h.login(t, map[string]any{"email": "alice@EXAMPLE.com"}); err != nil {
		t.Errorf("a domain in capitals: %+v, %v", who, err)
	}
	h.userInfo["sub"] = "2"
	if who, err := h.login(t, map[string]any{"email": nil}); control.CodeOf(err) != control.CodeUnauthorized {
		t.Errorf("somebody else's UserInfo: %+v, %v", who, err)
	}
}

func TestGroupTricks(t *testing.T) {
	h := newHostile(t)
	h.userInfo = map[string]any{"sub": "1"}
	for what, claim := range map[string]any{
		"none":                    []string{},
		"no claim":                nil,
		"capitals":                []string{"Admins"},
		"a space":                 []string{"admins ", " admins"},
		"a prefix":                []string{"admins-of-nothing", "admin", "not-admins"},
		"names in one, by commas": "users,admins",
		"names in one, by spaces": "users admins",
		"look-alikes":             []string{"\u0430dmins", "admins\u200b", "ａdmins"},
		"a pattern":               []string{"*", ".*", "admin%"},
		"the role":                []string{"owner", "a:admin", "admins=a:admin"},
		"a part of a name":        []string{"x", "y", "CN=x", "OU=y"},
		"display of another":      []any{map[string]any{"value": "users", "display": "admins"}},
		"an empty value":          []any{map[string]any{"value": "", "display": "admins"}},
		"a list in it":            []any{[]string{"admins"}},
		"keys of an object":       map[string]any{"admins": true},
		"a number":                7,
		"a number among them":     []any{"admins", 7},
		"null among them":         []any{"admins", json.RawMessage("null")},
		"true":                    true,
		"more than anybody has":   append(make([]string, 3000), "admins"),
		"a name without end":      []string{"admins", strings.Repeat("x", 1000)},
	} {
		if who, err := h.login(t, map[string]any{"groups": claim}); control.CodeOf(err) != control.CodeForbidden || len(who.Grants) > 0 {
			t.Errorf("%s: %+v, %v", what, who, err)
		}
	}
	for what, claim := range map[string]any{
		"a list": []string{"x", "admins"}, "one": "admins", "objects": []any{map[string]any{"value": "admins", "display": "x"}, map[string]any{"display": "y"}},
		"by display alone": []any{map[string]any{"display": "admins"}},
	} {
		if who, err := h.login(t, map[string]any{"groups": claim}); err != nil || len(who.Grants) != 1 {
			t.Errorf("%s: %+v, %v", what, who, err)
		}
	}
}

// TestRedirects: a code comes back to this machine alone, or to the console, to the letter.
func TestRedirects(t *testing.T) {
	h := newHostile(t)
	i, withConsole := h.issuer(t), h.issuer(t)
	withConsole.Redirect = "https://console.example.com/console/callback"
	for _, redirect := range []string{
		"https://console.example.com/console/callback/", "https://console.example.com/console/callback?x=y", "http://console.example.com/console/callback",
		"https://console.example.com:444/console/callback", "https://CONSOLE.example.com/console/callback", "https://console.example.com/callback",
		"", "https://evil.example.com/callback", "http://evil.example.com/callback", "http://127.0.0.1.evil.example.com:1/callback", "http://127.0.0.1:1@evil.example.com/callback",
		"http://evil.example.com:1/callback#127.0.0.1", "http://127.0.0.1/callback", "http://127.0.0.1:1/other", "http://127.0.0.1:1/callback?x=y", "//127.0.0.1:1/callback",
		"javascript:alert(1)", "http://localhost:1/callback", "http://2130706433:1/callback", "http://127.0.0.1:1/callback/../x", "http://0.0.0.0:1/callback",
	} {
		if who, err := i.Code(t.Context(), "code", verifier, redirect); control.CodeOf(err) != control.CodeInvalid {
			t.Errorf("%s: %+v, %v", redirect, who, err)
		}
		if who, err := withConsole.Code(t.Context(), "code", verifier, redirect); control.CodeOf(err) != control.CodeInvalid {
			t.Errorf("%s, where there is a console: %+v, %v", redirect, who, err)
		}
	}
	if _, err := i.Code(t.Context(), "code", verifier, withConsole.Redirect); control.CodeOf(err) != control.CodeInvalid {
		t.Errorf("the console's, where there is none: %v", err)
	}
	if len(h.asked) > 0 {
		t.Errorf("the issuer was asked: %q", h.asked)
	}
	h.token = func(issuer string) string { return sign(t, h.key, jose.RS256, good(issuer)) }
	if who, err := withConsole.Code(t.Context(), "code", verifier, withConsole.Redirect); err != nil {
		t.Errorf("the console's: %+v, %v", who, err)
	}
	if m, err := withConsole.Method(t.Context()); err != nil || m.Redirect != withConsole.Redirect {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestRefusals(t *testing.T) {
	h := newHostile(t)
	for refusal, want := range map[string]control.Code{
		"invalid_grant": control.CodeUnauthorized, "expired_token": control.CodeUnauthorized, "access_denied": control.CodeUnauthorized, "<b>odd</b>": control.CodeUnauthorized,
	} {
		h.refusal = refusal
		_, err := h.issuer(t).FromDevice(t.Context(), "d")
		if control.CodeOf(err) != want || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", refusal, err)
		}
	}
	for refusal, want := range map[string]error{"authorization_pending": ErrPending, "slow_down": ErrSlowDown} {
		h.refusal, h.asked = refusal, nil
		if _, err := h.issuer(t).FromDevice(t.Context(), "d"); !errors.Is(err, want) || len(h.asked) != 2 { // its configuration, and once for tokens
			t.Errorf("%s: %v, asked %q", refusal, err, h.asked)
		}
	}
	h.refusal = ""
	h.token = func(issuer string) string { return sign(t, h.key, jose.RS256, good(issuer)) }
	if who, err := h.issuer(t).FromDevice(t.Context(), "d"); err != nil || who.Email != "alice@example.com" {
		t.Errorf("by device code: %+v, %v", who, err)
	}
	if d, err := h.issuer(t).StartDevice(t.Context()); err != nil || d.Code != "d" || d.Interval != PollSeconds {
		t.Errorf("%+v, %v", d, err)
	}
	h.known = "https://another.example.com"
	if _, err := h.issuer(t).Method(t.Context()); control.CodeOf(err) != control.CodeUnavailable {
		t.Errorf("another's configuration: %v", err)
	}
	h.Close()
	if _, err := h.issuer(t).Method(t.Context()); control.CodeOf(err) != control.CodeUnavailable {
		t.Errorf("an issuer that is away: %v", err)
	}
}

func TestConfig(t *testing.T) {
	mapping := []Mapping{{"g", control.Grant{Role: control.RoleViewer}}}
	for _, c := range []Config{
		{Issuer: "http://issuer.example.com", ClientID: "c", GroupsClaim: "g", Mappings: mapping},
		{Issuer: "https://user@issuer.example.com", ClientID: "c", GroupsClaim: "g", Mappings: mapping},
		{Issuer: "issuer.example.com", ClientID: "c", GroupsClaim: "g", Mappings: mapping},
		{Issuer: "https://issuer.example.com", GroupsClaim: "g", Mappings: mapping},
		{Issuer: "https://issuer.example.com", ClientID: "c", GroupsClaim: "g"},
		{Issuer: "https://issuer.example.com", ClientID: "c", Mappings: mapping},
	} {
		if _, err := New(c, nil); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	for text, want := range map[string]Mapping{
		"admins=a:admin":         {"admins", control.Grant{Team: "a", Role: control.RoleAdmin}},
		"CN=x,OU=y=*:owner":      {"CN=x,OU=y", control.Grant{Role: control.RoleOwner}},
		"https://g/1:2=b:viewer": {"https://g/1:2", control.Grant{Team: "b", Role: control.RoleViewer}},
	} {
		if m, err := ParseMapping(text); err != nil || m != want {
			t.Errorf("%s: %+v, %v", text, m, err)
		}
	}
	for _, text := range []string{"", "admins", "=a:admin", "admins=a", "admins=admin", "admins=:owner", "admins=A:admin", "admins=a:root", "admins=a:admin:x", "admins=a: admin"} {
		if m, err := ParseMapping(text); err == nil {
			t.Errorf("%q is %+v", text, m)
		}
	}
}
