package control_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sallyport/control"
)

func TestParseMint(t *testing.T) {
	inject, err := control.ParseRule("header:X-Api-Key: {{token}}")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]control.Mint{
		"allow /**":            {Action: "allow", Path: "/**"},
		"refuse POST /v1/keys": {Action: "refuse", Methods: []string{"POST"}, Path: "/v1/keys"},
		" refuse  POST,PUT  /v1/keys  json:/key ": {Action: "refuse", Methods: []string{"POST", "PUT"}, Path: "/v1/keys",
			Places: []control.MintPlace{{Kind: "json", Name: "/key"}}},
		"strip /login cookie:session? header:X-Token": {Action: "strip", Path: "/login",
			Places: []control.MintPlace{{Kind: "cookie", Name: "session", Optional: true}, {Kind: "header", Name: "X-Token"}}},
		"capture POST /oauth/token json:/access_token strip:json:/refresh_token? name=oauth hosts=api.example.com,*.example.com ttl=/expires_in inject=header:X-Api-Key: {{token}}": {
			Action: "capture", Methods: []string{"POST"}, Path: "/oauth/token",
			Places: []control.MintPlace{{Kind: "json", Name: "/access_token"}, {Kind: "json", Name: "/refresh_token", Optional: true, Strip: true}},
			Name:   "oauth", Hosts: []string{"api.example.com", "*.example.com"}, TTLAt: "/expires_in", Inject: &inject},
		"capture /k json:/a~1b ttl=90m": {Action: "capture", Path: "/k", Places: []control.MintPlace{{Kind: "json", Name: "/a~1b"}}, TTL: 90 * time.Minute},
	} {
		got, err := control.ParseMint(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q is %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                                            "begins with allow, refuse, strip or capture",
		"hide /x":                                     "begins with allow, refuse, strip or capture",
		"refuse":                                      "want ACTION [METHOD,…] /PATH",
		"refuse POST":                                 "want ACTION [METHOD,…] /PATH",
		"refuse post /x":                              `"post" is no method`,
		"refuse POST, /x":                             `"" is no method`,
		"strip /x":                                    "say where the secret stands",
		"capture /x":                                  "say where the secret stands",
		"capture /x strip:json:/a":                    "it captures nothing",
		"strip /x strip:json:/a":                      "strip: is for places of a rule that captures",
		"allow /x json:/a":                            "what is allowed has no place",
		"refuse /x ttl=/a":                            "are for capture",
		"strip /x json:/a name=b":                     "are for capture",
		"capture /x json:a":                           "is none of json:/POINTER",
		"capture /x json:":                            "is none of json:/POINTER",
		"capture /x json:/a~2":                        "is none of json:/POINTER",
		"capture /x cookie:a=b":                       "is none of json:/POINTER",
		"capture /x header:Set-Cookie":                "is none of json:/POINTER",
		"capture /x header:Host":                      "is none of json:/POINTER",
		"capture /x json:/a json:/a?":                 "is there twice",
		"capture /x json:/a name=A":                   "small letters",
		"capture /x json:/a ttl=1ms":                  "want a JSON pointer",
		"capture /x json:/a ttl=9999h":                "want a JSON pointer",
		"capture /x json:/a ttl=/a ttl=1h":            "two ttl=",
		"capture /x json:/a inject=basic":             "what is captured is injected by",
		"capture /x json:/a inject=x":                 "is none of: bearer",
		"capture /x json:/a inject=default:X-A: b":    "what is captured is injected by",
		"capture /x ttl=/e\t json:/a":                 "spaces alone", // once written, ttl is last, where nobody sees it
		"capture /x ttl=/\u00a0 json:/a":              "spaces alone",
		"strip /x json:/a\x1b[2J json:/b":             "spaces alone",
		"refuse /x" + strings.Repeat(" json:/a/b", 9): "twice",
	} {
		if _, err := control.ParseMint(text); control.CodeOf(err) != control.CodeInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", text, err, want)
		}
	}
}

// What is stored reads as the same rule.
func TestMintReadsAsItIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`(allow|refuse|strip|capture)( (GET|POST)(,PUT)?)? /[a-z*]{0,4}(/\*\*)?( (strip:)?(json:(/[a-z~0-1]{0,3}){1,2}|cookie:[a-z]|header:X-[A-Z])\??){0,3}( name=[a-z-]{1,18})?( hosts=a\.test(,b\.test)?)?( ttl=(/[a-z]{1,3}|[1-9]{1,3}(s|m|h)))?( inject=(bearer|query:k|cookie:c|header:X-K: \{\{token\}\}))?`).Draw(t, "rule")
		m, err := control.ParseMint(text)
		if err != nil {
			t.Skip(err)
		}
		again, err := control.ParseMint(m.String())
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%q is %+v, and %q is %+v (%v)", text, m, m.String(), again, err)
		}
	})
}

func TestMintDefaults(t *testing.T) {
	for text, want := range map[string][2]string{
		"capture /x json:/access_token":                        {"access-token", "bearer"},
		"capture /x json:/data/0/Api~1Key":                     {"api-1key", "bearer"},
		"capture /x json:/__":                                  {"token", "bearer"},
		"capture /x json:/a_very_long_name_of_a_key":           {"a-very-long-name", "bearer"},
		"capture /x cookie:SESSION":                            {"session", "cookie:SESSION"},
		"capture /x header:X-Auth-Token":                       {"x-auth-token", "header:X-Auth-Token: {{token}}"},
		"capture /x header:X-Auth-Token name=t inject=query:k": {"t", "query:k"},
	} {
		m, err := control.ParseMint(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]string{m.Suffix(m.Places[0]), m.Rule(m.Places[0]).String()}; got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
