package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/oauth2"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
)

type credentialLoginCmd struct {
	Credential string `arg:"" placeholder:"VAULT/NAME" help:"A credential of auth oauth_refresh whose setting auth_url says where people allow it."`
	Browser    bool   `negatable:"" default:"true" help:"Open the browser; --no-browser only prints the address."`
}

// Run has a person allow something in a browser, and brings the code to the control
// plane, which exchanges it: no token comes here (RFC 8252, RFC 7636).
func (cmd *credentialLoginCmd) Run(ctx context.Context, c *cli) error {
	vault, name, found := strings.Cut(cmd.Credential, "/")
	if !found || vault == "" || name == "" {
		return usagef("credential login takes VAULT/NAME")
	}
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	credential, err := api.Credential(ctx, team, vault, name)
	if err != nil {
		return err
	}
	if credential.Auth != control.AuthOAuthRefresh || credential.Settings["auth_url"] == "" {
		return withHint(fmt.Errorf("nobody can log in for %s: it is not of auth oauth_refresh with the setting auth_url", cmd.Credential), "docs/auth.md shows how such a credential is stored")
	}
	login, err := cmd.allow(ctx, c, credential.Settings)
	if err != nil {
		return err
	}
	defer login.Code.Wipe()
	defer login.Verifier.Wipe()
	stored, err := api.LoginCredential(ctx, team, vault, name, login)
	if err != nil {
		return err
	}
	return c.say(stored, "credential %s is now version %d, by what was just allowed", name, stored.Version)
}

// allow gives what the browser brings back.
func (cmd *credentialLoginCmd) allow(ctx context.Context, c *cli, s control.Settings) (client.CredentialLogin, error) {
	listener, redirect, err := listenForCode(s["redirect_uri"])
	if err != nil {
		return client.CredentialLogin{}, err
	}
	defer listener.Close()
	back, err := newCallback(redirect, "", func(q url.Values) error {
		return fmt.Errorf("it was not allowed: %s", oauthError(q.Get("error")))
	})
	if err != nil {
		return client.CredentialLogin{}, err
	}
	verifier := oauth2.GenerateVerifier()
	config := oauth2.Config{ClientID: s["client_id"], RedirectURL: redirect, Scopes: strings.Fields(s["scope"]), Endpoint: oauth2.Endpoint{AuthURL: s["auth_url"]}}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(verifier)}
	if s["resource"] != "" {
		options = append(options, oauth2.SetAuthURLParam("resource", s["resource"])) // RFC 8707
	}
	address := config.AuthCodeURL(back.state, options...)
	fmt.Fprintf(c.stderr, "Allow it at\n\n  %s\n\n", visible(address))
	if cmd.Browser {
		openBrowser(address)
	}
	code, err := back.await(ctx, listener)
	if err != nil {
		return client.CredentialLogin{}, err
	}
	return client.CredentialLogin{Code: client.Outgoing{Secret: control.Secret(code)}, Verifier: client.Outgoing{Secret: control.Secret(verifier)}, RedirectURI: redirect}, nil
}

// listenForCode listens on loopback, at the address that the client is known with or
// any.
func listenForCode(known string) (net.Listener, string, error) {
	address, redirect := "127.0.0.1:0", known
	if known != "" {
		u, err := url.Parse(known)
		if err != nil {
			return nil, "", fmt.Errorf("read the setting redirect_uri: %w", err)
		}
		address = u.Host
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, "", fmt.Errorf("listen for the browser: %w", err)
	}
	if redirect == "" {
		redirect = "http://" + listener.Addr().String() + "/callback"
	}
	return listener, redirect, nil
}

// oauthError is an error code of an authorization server (RFC 6749 section 4.1.2.1),
// or a word in the place of anything else.
func oauthError(code string) string {
	if code == "" || strings.ContainsFunc(code, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }) {
		return "the server gives no reason"
	}
	return code
}

// openBrowser tries to show an address. If it can't, the person has it printed.
func openBrowser(address string) {
	name := "xdg-open"
	if runtime.GOOS == "darwin" {
		name = "open"
	}
	if cmd := exec.Command(name, address); cmd.Start() == nil {
		cmd.Process.Release() // it may be the browser itself, which outlives us
	}
}
