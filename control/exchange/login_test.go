package exchange_test

import (
	"testing"

	"sallyport/control"
	"sallyport/control/exchange"
)

// TestRedirectsOfLogins: a code comes to a program on the person's machine or to the
// console that there is, and nowhere else.
func TestRedirectsOfLogins(t *testing.T) {
	const console = "https://sallyport.example.com:8200/console/authorized"
	x := local(t)
	c := control.Credential{Vault: "v", Name: "c", Auth: control.AuthOAuthRefresh, Settings: control.Settings{
		"token_url": "https://127.0.0.1:1/token", "client_id": "x", "client_auth": "none",
	}}
	for redirect, good := range map[string]bool{
		"http://127.0.0.1:4711/callback": true, "http://[::1]:4711/callback": true, "http://localhost:4711/callback": true,
		console:       true,
		console + "/": false, console + "?x=y": false, console + "#x": false, "": false,
		"https://sallyport.example.com/console/authorized":                 false,
		"http://sallyport.example.com:8200/console/authorized":             false,
		"https://sallyport.example.com:8200/console/callback":              false,
		"https://sallyport.example.com:8200/console/../console/authorized": false,
		"https://SALLYPORT.example.com:8200/console/authorized":            false,
		"https://sallyport.example.com:8200@evil.example.com/authorized":   false,
		"https://evil.example.com/console/authorized":                      false,
		"http://127.0.0.1.evil.example.com:80/callback":                    false,
		"http://127.0.0.1/callback":                                        false,
	} {
		login := exchange.Login{Code: control.Secret("code"), Verifier: control.Secret("verifier"), RedirectURI: redirect, Console: console}
		_, err := x.Redeem(t.Context(), c, control.Secret("{}"), login)
		if refused := control.CodeOf(err) == control.CodeInvalid; refused == good {
			t.Errorf("a code at %s: %v", redirect, err)
		}
		_, err = x.Discover(t.Context(), exchange.Discovery{Resource: "https://127.0.0.1:1/mcp", RedirectURI: redirect, Console: console})
		if refused := control.CodeOf(err) == control.CodeInvalid; refused == good {
			t.Errorf("a client of %s: %v", redirect, err)
		}
		login.Console = ""
		if _, err := x.Redeem(t.Context(), c, control.Secret("{}"), login); redirect == console && control.CodeOf(err) != control.CodeInvalid {
			t.Errorf("without a console: %v", err)
		}
	}
	for redirect, good := range map[string]bool{console: true, "http://127.0.0.1:4711/callback": true, "http://evil.example.com/": false, "javascript:alert(1)": false} {
		c.Settings["redirect_uri"] = redirect
		if err := x.Check(c); (err == nil) != good {
			t.Errorf("the setting %s: %v", redirect, err)
		}
	}
}
