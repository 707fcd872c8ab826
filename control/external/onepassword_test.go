package external

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"sallyport/control"
	"sallyport/control/external/externaltest"
)

func TestOnePassword(t *testing.T) {
	address, client := serve(t, &externaltest.FakeConnect{Token: "canary-connect", Key: "canary-key"})
	p := &onePassword{client}
	s := source("onepassword", control.Settings{"address": address})
	for place, want := range map[string]string{
		"s:Agents/Stripe live#password":                     "canary-key",
		"s:ftz4pm2xxwmwrsd7rjqn7grzfz/Stripe live#username": "ops",
		"s:Agents/wepiqdxdzncjtnvmv5fegud4qy#k1":            "canary-live",
		"s:Agents/Stripe live#Test/key":                     "canary-test",
		"s:Agents/Stripe live#a=username,b=password":        `{"a":"ops","b":"canary-key"}`,
	} {
		if got, version, err := read(t, p, s, "canary-connect", place); err != nil || got != want || version != "3" {
			t.Errorf("%s: %q, version %q, %v", place, got, version, err)
		}
	}
	for name, tc := range map[string]struct{ secret, place, want string }{
		"another token": {"canary-other", "s:Agents/Stripe live#password", "answers 401"},
		"no vault":      {"canary-connect", "s:Others/Stripe live#password", `nothing that is called "Others"`},
		"no item":       {"canary-connect", "s:Agents/Stripe#password", `nothing that is called "Stripe"`},
		"no such id":    {"canary-connect", "s:Agents/aaaaaaaaaaaaaaaaaaaaaaaaaa#password", "answers 404"},
		"no field":      {"canary-connect", "s:Agents/Stripe live#pass", `has no text "pass"`},
		"two fields":    {"canary-connect", "s:Agents/Stripe live#key", "SECTION/LABEL"},
		"all of it":     {"canary-connect", "s:Agents/Stripe live", "say which field"},
		"no path":       {"canary-connect", "s:Agents#password", "it is VAULT/ITEM"},
		"a longer path": {"canary-connect", "s:Agents/Stripe live/files#password", "it is VAULT/ITEM"},
	} {
		if got, _, err := read(t, p, s, tc.secret, tc.place); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %q, %v; want an error with %q", name, got, err, tc.want)
		}
	}
	hostile, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `[{"id": "../../admin?`+r.Header.Get("Authorization")+`"}]`)
	}))
	_, _, err := read(t, p, source("onepassword", control.Settings{"address": hostile}), "canary-connect", "s:Agents/Stripe live#password")
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("a server that gives paths for ids: %v", err)
	}
}
