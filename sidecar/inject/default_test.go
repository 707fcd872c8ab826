package inject

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sallyport/control/api"
)

func absent(name, text string) *api.Rule {
	return &api.Rule{Place: &api.Rule_Header_{Header: &api.Rule_Header{Name: name, Template: text, OnlyIfAbsent: true}}}
}

func TestDefaultOnTheWire(t *testing.T) {
	rules := []*api.Rule{header("Authorization", "Bearer {{token}}"), absent("x-version", "1")}
	for _, tt := range []struct{ name, client, want string }{
		{"nothing", "", "Authorization: Bearer t|X-Version: 1"},
		{"the client's own", "x-version: 2", "Authorization: Bearer t|X-Version: 2"},
		{"several of the client's", "X-Version: 2|x-version: 3", "Authorization: Bearer t|X-Version: 2|X-Version: 3"},
		{"an empty one", "X-Version:", "Authorization: Bearer t|X-Version: "},
		{"another spelling", "x_version: 2", "Authorization: Bearer t|X_version: 2"},
		{"two spellings", "X.Version: 2|X_VERSION: 3", "Authorization: Bearer t|X.version: 2|X_version: 3"},
		{"another field", "X-Versions: 2", "Authorization: Bearer t|X-Version: 1|X-Versions: 2"},
		{"a key of the client's", "X-Version: 2|Authorization: mine", "Authorization: Bearer t|X-Version: 2"},
	} {
		var client []string
		if tt.client != "" {
			client = strings.Split(tt.client, "|")
		}
		r := parse(t, "/", client...)
		Clear(r, rules)
		if err := Apply(r, rules, api.Material{Token: []byte("t")}); err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if _, fields := wire(t, r); !strings.EqualFold(strings.Join(fields, "|"), tt.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.name, fields, tt.want)
		}
	}
}

// A control plane that is wrong can't have a client's key stay, or the secret left out.
func TestDefaultIsNoWayAroundTheSecret(t *testing.T) {
	m := api.Material{Token: []byte("t")}
	rules := []*api.Rule{absent("X-Api-Key", "none")}
	r := parse(t, "/", "X_Api_Key: mine")
	Clear(r, rules)
	if err := Apply(r, rules, m); err != nil {
		t.Fatal(err)
	}
	if _, fields := wire(t, r); len(fields) != 1 || fields[0] != "X-Api-Key: none" {
		t.Errorf("sent %q", fields)
	}
}

// The proxy stops net/http from naming itself with an empty User-Agent, which is none.
func TestDefaultUserAgent(t *testing.T) {
	rules := []*api.Rule{absent("User-Agent", "sallyport")}
	for sent, want := range map[string]string{"": "sallyport", "curl": "curl"} {
		r := parse(t, "/")
		r.Header["User-Agent"] = []string{sent}
		Clear(r, rules)
		if err := Apply(r, rules, api.Material{Token: []byte("t")}); err != nil {
			t.Fatal(err)
		}
		if got := r.Header.Get("User-Agent"); got != want {
			t.Errorf("%q became %q", sent, got)
		}
	}
}

// Whatever a client sends, its own fields of the name stay as they are, in every
// spelling; where it sends none there is one, the default; nothing else changes.
func TestDefaultFillsInOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		client := http.Header{}
		for _, name := range rapid.SliceOf(rapid.StringMatching(`[Aa][-_.~][Vv]|[Aa]-?[BbVv]{1,2}`)).Draw(t, "fields") {
			client.Add(name, rapid.StringMatching(`[a-z]{0,2}`).Draw(t, "value"))
		}
		own := slices.ContainsFunc(slices.Collect(maps.Keys(client)), func(name string) bool {
			return len(name) == 3 && strings.EqualFold(name[:1]+name[2:], "av") && strings.Contains("-_.~", name[1:2])
		})
		want := client.Clone()
		if !own {
			want.Set("A-V", "default")
		}
		r := &http.Request{Header: client}
		rules := []*api.Rule{absent("a-V", "default")}
		clearFields(r.Header, rules)
		if err := Apply(r, rules, api.Material{Token: []byte("t")}); err != nil {
			t.Fatal(err)
		}
		if !maps.EqualFunc(r.Header, want, slices.Equal[[]string]) {
			t.Fatalf("sent %v, want %v", r.Header, want)
		}
	})
}
