package inject

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/control/api"
)

func hmacRules(algorithm, text, form string, headers ...string) []*api.Rule {
	rule := &api.Rule_HMAC{Algorithm: algorithm, StringToSign: text, Timestamp: form}
	for _, h := range headers {
		name, template, _ := strings.Cut(h, ": ")
		rule.Headers = append(rule.Headers, &api.Rule_Header{Name: name, Template: template})
	}
	return []*api.Rule{{Place: &api.Rule_Hmac{Hmac: rule}}}
}

func hmacWith(r *http.Request, rules []*api.Rule, key string, at time.Time) error {
	m := api.Material{Token: []byte(key)}
	signing, err := NewSigning(rules, m)
	if err != nil {
		return err
	}
	signer := signing.Begin(r, NewBudget(64<<20))
	defer signer.Release()
	Clear(r, rules)
	if err := Apply(r, rules, m); err != nil {
		return err
	}
	_, err = signer.Sign(r, at)
	return err
}

func sum(h func() hash.Hash, key, text string) []byte {
	mac := hmac.New(h, []byte(key))
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// The example of Slack's manual ("Verifying requests from Slack").
func TestHMACPublished(t *testing.T) {
	body := "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
	r := request(t, "POST", "https://api.test/hook", body)
	rules := hmacRules("sha256", "v0:{{timestamp}}:{{body}}", "unix", "X-Slack-Signature: v0={{signature:hex}}", "X-Slack-Request-Timestamp: {{timestamp}}")
	if err := hmacWith(r, rules, "8f742231b10e8888abcd99yyyzzz85a5", time.Unix(1531420618, 0)); err != nil {
		t.Fatal(err)
	}
	if got := r.Header.Get("X-Slack-Signature"); got != "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503" || r.Header.Get("X-Slack-Request-Timestamp") != "1531420618" {
		t.Error(r.Header)
	}
	if got, err := sent(r); err != nil || got != body {
		t.Errorf("sent %q, %v", got, err)
	}
}

func TestHMACTemplates(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	bodySum := sha256.Sum256([]byte("{{path}}"))
	for _, tt := range []struct{ text, form, want string }{
		{"{{timestamp}}.{{body}}", "unix", "1767323045.{{path}}"},
		{"{{timestamp}}", "unix_ms", "1767323045006"},
		{"{{timestamp}}", "rfc3339", "2026-01-02T03:04:05Z"},
		{"{{timestamp}}", "http", "Fri, 02 Jan 2026 03:04:05 GMT"},
		{"{{method}} {{path}}?{{query}} {{host}}", "", "POST /a%2Fb?c=d+e&c api.test:444"},
		{"{{body_sha256}}", "", hex.EncodeToString(bodySum[:])},
		{"{{header:X-One}}|{{header:x-none}}|{{header:X-Slots}}", "", "one||{{method}}"},
		{"no slot } { }}", "", "no slot } { }}"},
	} {
		r := request(t, "POST", "https://api.test:444/a%2Fb?c=d+e&c", "{{path}}", "X-One:   one ", "X-Slots: {{method}}")
		rules := hmacRules("sha512", tt.text, tt.form, "Signature: t={{timestamp}},v1={{signature:base64}}")
		if err := hmacWith(r, rules, "the key", at); err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		want := base64.StdEncoding.EncodeToString(sum(sha512.New, "the key", tt.want))
		if _, got, _ := strings.Cut(r.Header.Get("Signature"), ",v1="); got != want {
			t.Errorf("%q: %s is not of %q", tt.text, r.Header.Get("Signature"), tt.want)
		}
	}
	nonces := make(map[string]bool)
	for range 2 {
		r := request(t, "GET", "https://api.test/", "")
		if err := hmacWith(r, hmacRules("sha384", "{{nonce}}", "", "Nonce: {{nonce}}", "Signature: {{signature:hex}}"), "the key", at); err != nil {
			t.Fatal(err)
		}
		nonce := r.Header.Get("Nonce")
		if nonces[nonce] || len(nonce) < 20 || r.Header.Get("Signature") != hex.EncodeToString(sum(sha512.New384, "the key", nonce)) {
			t.Error(r.Header)
		}
		nonces[nonce] = true
	}
}

// A client's own signature goes, in every spelling; what is signed of it is there once.
func TestHMACTakesNothingOfTheClients(t *testing.T) {
	rules := hmacRules("sha256", "{{header:X-Id}}", "", "X-Signature: {{signature:hex}}", "X-Timestamp: {{timestamp}}")
	r := request(t, "GET", "https://api.test/", "", "X_Signature: mine", "x.signature: mine", "X-Timestamp: 1", "Authorization: mine", "X-Id: 1")
	if err := hmacWith(r, rules, "the key", signedAt); err != nil {
		t.Fatal(err)
	}
	if len(r.Header) != 3 || r.Header.Get("X-Signature") != hex.EncodeToString(sum(sha256.New, "the key", "1")) {
		t.Errorf("sent %v", r.Header)
	}
	r = request(t, "GET", "https://api.test/", "", "X-Id: 1", "X-Id: 2")
	if err := hmacWith(r, rules, "the key", signedAt); code(err) != "ambiguous_field" {
		t.Errorf("a field twice: %v", err)
	}
	r = request(t, "POST", "https://api.test/", strings.Repeat("x", MostHeld+1))
	if err := hmacWith(r, hmacRules("sha256", "{{body}}", "", "S: {{signature:hex}}"), "the key", signedAt); code(err) != "body_too_long_to_sign" {
		t.Errorf("a long body: %v", err)
	}
}

// Rules that a control plane has wrong sign nothing, and send no key.
func TestHMACRulesRefused(t *testing.T) {
	good := hmacRules("sha256", "x", "", "S: {{signature:hex}}")
	for name, rules := range map[string][]*api.Rule{
		"algorithm":        hmacRules("sha1", "x", "", "S: {{signature:hex}}"),
		"no algorithm":     hmacRules("", "x", "", "S: {{signature:hex}}"),
		"slot":             hmacRules("sha256", "{{token}}", "", "S: {{signature:hex}}"),
		"slot of a header": hmacRules("sha256", "x", "", "S: {{body}}"),
		"key in a header":  hmacRules("sha256", "x", "", "S: {{token}}"),
		"open slot":        hmacRules("sha256", "{{body", "", "S: {{signature:hex}}"),
		"form of time":     hmacRules("sha256", "x", "stardate", "S: {{signature:hex}}"),
		"name":             hmacRules("sha256", "x", "", "A b: {{signature:hex}}"),
		"the key beside":   append([]*api.Rule{header("Authorization", "Bearer {{token}}")}, good...),
		"in the query":     append([]*api.Rule{query("key")}, good...),
		"twice":            append(good, good...),
	} {
		r := request(t, "POST", "https://api.test/", "body")
		if err := hmacWith(r, rules, "the key", signedAt); !errors.Is(err, ErrRule) || len(r.Header) > 0 || r.URL.RawQuery != "" {
			t.Errorf("%s: %v, sent %v", name, err, r.Header)
		}
	}
}
