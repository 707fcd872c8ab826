package control_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sallyport/control"
)

func TestDefaultRule(t *testing.T) {
	r, err := control.ParseRule("default:Notion-Version:  2022-06-28 ")
	if err != nil {
		t.Fatal(err)
	}
	if want := (control.Rule{Kind: control.RuleDefault, Name: "Notion-Version", Template: "2022-06-28"}); r != want {
		t.Errorf("it is %+v", r)
	}
	if r.Holds() {
		t.Error("it says that it holds the token")
	}
	for rule, want := range map[string]string{
		"default:":                     "want default:NAME: TEXT",
		"default:X-Version":            "want default:NAME: TEXT",
		"default:X-Version: ":          "want default:NAME: TEXT",
		"default:X Version: 1":         "want default:NAME: TEXT",
		"default:X-Version: {{token}}": "use header:NAME: {{token}}",
		"default:X-Version: a{{tokn}}": "holds no {{token}}",
		"default:X-Version: a}}":       "holds no {{token}}",
		"default:Host: a.example.com":  "frames or routes",
		"default:X-Version: a\r\nB: c": "printable ASCII",
		"default:X-Version: é":         "printable ASCII",
		"Default:X-Version: 1":         "none of: bearer",
	} {
		if _, err := control.ParseRule(rule); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", rule, err, want)
		}
	}
}

// The text form that is stored reads as the same rule.
func TestRuleReadsAsItIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`(header|default):[A-Za-z_.-]{1,12}: ?[ -~]{0,20}(\{\{token\}\})?|query:[a-z]{1,5}|path:/[a-z/]{0,5}\{\{token\}\}/\{\{path\}\}|bearer|basic`).Draw(t, "rule")
		r, err := control.ParseRule(text)
		if err != nil {
			t.Skip(err)
		}
		again, err := control.ParseRule(r.String())
		if err != nil || again != r {
			t.Fatalf("%q is %+v, and %q is %+v (%v)", text, r, r.String(), again, err)
		}
	})
}
