package inject

import (
	"errors"
	"strings"
	"testing"

	"sallyport/control/api"
)

func cookie(name string) *api.Rule {
	return &api.Rule{Place: &api.Rule_Cookie_{Cookie: &api.Rule_Cookie{Name: name}}}
}

func TestCookieOnTheWire(t *testing.T) {
	for _, tt := range []struct{ name, client, want string }{
		{"none", "", "Cookie: session=t0k/en="},
		{"others", "Cookie: a=b; c=\"d e\"", "Cookie: a=b; c=\"d e\"; session=t0k/en="},
		{"its placeholder", "Cookie: a=b; session=vault:x.session.1; c=d", "Cookie: a=b; c=d; session=t0k/en="},
		{"twice", "Cookie: session=1; a=b; session=2", "Cookie: a=b; session=t0k/en="},
		{"two fields", "Cookie: a=b; session=1|cookie: session=2", "Cookie: a=b; session=t0k/en="},
		{"another spelling", "Cookie: SESSION=1; \"session\"=2;session =3,session=4", "Cookie: session=t0k/en="},
		{"a longer name", "Cookie: session2=1; mysession=2", "Cookie: session2=1; mysession=2; session=t0k/en="},
		{"no value", "Cookie: session; a", "Cookie: a; session=t0k/en="},
		{"a key beside it", "Authorization: mine|Cookie: session=1", "Cookie: session=t0k/en="},
	} {
		var client []string
		if tt.client != "" {
			client = strings.Split(tt.client, "|")
		}
		r := parse(t, "/", client...)
		rules := []*api.Rule{cookie("session")}
		Clear(r, rules)
		if err := Apply(r, rules, api.Material{Token: []byte("t0k/en=")}); err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if _, fields := wire(t, r); strings.Join(fields, "|") != tt.want {
			t.Errorf("%s: sent %q, want %s", tt.name, fields, tt.want)
		}
	}
}

func TestCookieTakesNoMoreThanOne(t *testing.T) {
	for _, token := range []string{"a; admin=1", "a,b", "a b", "a\r\nX: y", "a\tb"} {
		r := parse(t, "/", "Cookie: a=b")
		if err := Apply(r, []*api.Rule{cookie("session")}, api.Material{Token: []byte(token)}); !errors.Is(err, ErrMaterial) {
			t.Errorf("%q: %v", token, err)
		}
		if r.Header.Get("Cookie") != "a=b" {
			t.Errorf("%q: sent %q", token, r.Header.Get("Cookie"))
		}
	}
}
