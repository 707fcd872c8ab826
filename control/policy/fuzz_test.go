package policy

import (
	"reflect"
	"testing"

	"sallyport/control"
)

// A rule that is accepted prints as text that is read as the same rule.
func FuzzRule(f *testing.F) {
	for _, s := range []string{
		"deny api.example.com DELETE /v1", "inspect *.example.com:8443,*.example.com:443 GET,POST /a /b", "passthrough 10.0.0.0/8:22", "deny *",
		"passthrough [2001:db8::]/32", "passthrough [2001:db8::1]:22", "passthrough 2001:db8::/32", "deny *:80 TRACE", "inspect a.b,a.b:443", "deny a.b /%41",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rule, err := ParseRule(text)
		if err != nil {
			return
		}
		normal, err := Check(control.Policy{Rules: []control.PolicyRule{rule}})
		if err != nil {
			return
		}
		printed := FormatRule(normal.Rules[0])
		again, err := ParseRule(printed)
		if err != nil {
			t.Fatalf("%q prints as %q, which is no rule: %v", text, printed, err)
		}
		checked, err := Check(control.Policy{Rules: []control.PolicyRule{again}})
		if err != nil || !reflect.DeepEqual(checked, normal) {
			t.Fatalf("%q prints as %q, which is\n%+v, not\n%+v (%v)", text, printed, checked, normal, err)
		}
	})
}
