package control

import (
	"strings"
	"testing"
)

// A rule that is accepted prints as text that is read as the same rule, and sets
// nothing that frames a message or routes it.
func FuzzParseRule(f *testing.F) {
	for _, s := range []string{
		"bearer", "basic", "header:X-Api-Key: {{token}}", "header:Authorization: Bearer {{token}}", "header:Host: {{token}}", "header:A: {{{{token}}}}",
		"default:Notion-Version: 2022-06-28", "query:key", "path:/bot{{token}}/{{path}}", "path:/{{path}}{{token}}?", "header:A: b\r\nC: {{token}}", "header:A:{{token}}{{tok",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rule, err := ParseRule(text)
		if err != nil {
			return
		}
		again, err := ParseRule(rule.String())
		if err != nil || again != rule {
			t.Fatalf("%q prints as %q, which is %+v, %v", text, rule, again, err)
		}
		if strings.ContainsAny(rule.Name+rule.Template, "\r\n\x00") || unruly[strings.ToLower(rule.Name)] {
			t.Fatalf("%q is the rule %+v", text, rule)
		}
		// What is left beside the slots is no part of another slot.
		if rest := strings.NewReplacer(tokenSlot, "", pathSlot, "").Replace(rule.Template); strings.Contains(rest, "{{") || strings.Contains(rest, "}}") {
			t.Fatalf("%q has slots in slots: %q", text, rule.Template)
		}
	})
}
