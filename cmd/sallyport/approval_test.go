package main

import (
	"strings"
	"testing"
	"unicode"

	"sallyport/control"
)

// What an agent chooses is shown as what it is: no letter looks like another, and
// nothing moves on the terminal.
func TestApprovalIsShownPlain(t *testing.T) {
	for text, want := range map[string]string{
		"/v1/charges?":            "/v1/charges?",
		"/v1/\u202efdp.exe":       `/v1/\u202efdp.exe`,
		"/p\u0430ypal":            `/p\u0430ypal`,
		"GET\x1b[2K\rDELETE":      `GET\x1b[2K\rDELETE`,
		"/a\u200b\u2066b\u00e9\n": `/a\u200b\u2066b\u00e9\n`,
		"/\xff":                   `/\xff`,
		`/"x"`:                    `/"x"`,
	} {
		if got := plain(text); got != want || strings.ContainsFunc(got, func(r rune) bool { return r > unicode.MaxASCII || r < ' ' }) {
			t.Errorf("%q is shown as %s, want %s", text, got, want)
		}
	}
	for host, want := range map[control.Approval]string{
		{Host: "api.stripe.com", Port: 443}:            "api.stripe.com",
		{Host: "api.stripe.com", Port: 8443}:           "api.stripe.com:8443",
		{Host: "xn--pypal-4ve.example.com", Port: 443}: "xn--pypal-4ve.example.com (an international name)",
	} {
		if got := approvalHost(host); got != want {
			t.Errorf("%+v is shown as %s", host, got)
		}
	}
}
