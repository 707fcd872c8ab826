package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"sallyport/control"
)

// TestIssuerOfAnswer: a code of another authorization server is none (RFC 9207), nor is
// one without a name where there has to be one.
func TestIssuerOfAnswer(t *testing.T) {
	const issuer = "https://login.example.com/"
	for _, tc := range []struct {
		name, issuer string
		named        bool
		iss          []string
		want         bool
	}{
		{"nobody is known", "", false, nil, true},
		{"nobody is known, and somebody answers", "", false, []string{issuer}, true},
		{"it may name itself", issuer, false, []string{issuer}, true},
		{"it need not", issuer, false, nil, true},
		{"another", issuer, false, []string{"https://evil.example.com/"}, false},
		{"another spelling", issuer, false, []string{"https://login.example.com"}, false},
		{"two", issuer, false, []string{issuer, issuer}, false},
		{"an empty one", issuer, false, []string{""}, false},
		{"it must name itself", issuer, true, []string{issuer}, true},
		{"and does not", issuer, true, nil, false},
		{"it must be another", issuer, true, []string{"https://evil.example.com/"}, false},
		{"nobody is known, who must be", "", true, []string{issuer}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, err := newCallback("http://127.0.0.1:4711/callback", tc.issuer, func(url.Values) error { return errors.New("refused") })
			if err != nil {
				t.Fatal(err)
			}
			b.named = tc.named
			answer := httptest.NewRecorder()
			b.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "http://127.0.0.1:4711/callback?"+url.Values{"code": {"c0de"}, "state": {b.state}, "iss": tc.iss}.Encode(), nil))
			if taken := len(b.codes) == 1; taken != tc.want || (answer.Code == http.StatusOK) != tc.want {
				t.Errorf("the code was taken: %v, answered %d", taken, answer.Code)
			}
		})
	}
}

// TestNoBrowserGoesThere: what a control plane gives for a page is opened by a browser of
// this machine's user, which reads files and runs scripts.
func TestNoBrowserGoesThere(t *testing.T) {
	listener, err := listenForCode("")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, at := range []string{"file:///etc/passwd", "javascript:alert(1)", "http://login.example.com/", "--help", "https:", ""} {
		var said strings.Builder
		cmd := &credentialLoginCmd{Browser: true}
		if _, err := cmd.allow(t.Context(), &cli{stderr: &said}, control.Settings{"auth_url": at}, listener); err == nil || said.String() != "" {
			t.Errorf("%q: %v, and it says %q", at, err, said.String())
		}
	}
}

// TestConsolesClientIsNotOurs: what a client of the web console is registered with is not
// listened at.
func TestConsolesClientIsNotOurs(t *testing.T) {
	for _, known := range []string{"https://sallyport.example.com/console/authorized", "http://127.0.0.1:8200/console/authorized"} {
		listener, err := listenForCode(known)
		if err == nil {
			listener.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "web console") {
			t.Errorf("%s: %v", known, err)
		}
	}
}
