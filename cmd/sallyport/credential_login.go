package main

import (
	"context"
	"errors"
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
	Credential   string   `arg:"" placeholder:"VAULT/NAME" help:"A credential of auth oauth_refresh whose setting auth_url says where people allow it; with --mcp one that is made."`
	MCP          string   `name:"mcp" placeholder:"URL" help:"Make the credential for an MCP server that says by itself where people log in for it, as a client that is registered there."`
	Scope        string   `placeholder:"SCOPE" help:"What to ask for, in the place of what the MCP server says."`
	EndpointHost []string `sep:"none" placeholder:"HOST" help:"A host where the authorization server may have endpoints, beside its own. May be repeated."`
	Browser      bool     `negatable:"" default:"true" help:"Open the browser; --no-browser only prints the address."`
}

// Run has a person allow something in a browser, and brings the code to the control
// plane, which exchanges it: no token comes here (RFC 8252, RFC 7636).
func (cmd *credentialLoginCmd) Run(ctx context.Context, c *cli) error {
	vault, name, found := strings.Cut(cmd.Credential, "/")
	switch {
	case !found || vault == "" || name == "":
		return usagef("credential login takes VAULT/NAME")
	case cmd.MCP == "" && (cmd.Scope != "" || len(cmd.EndpointHost) > 0):
		return usagef("--scope and --endpoint-host go with --mcp")
	}
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	var credential control.Credential
	var listener net.Listener
	if cmd.MCP != "" {
		credential, listener, err = cmd.discover(ctx, c, api, team, vault, name)
	} else {
		credential, listener, err = cmd.known(ctx, api, team, vault, name)
	}
	if err != nil {
		return err
	}
	defer listener.Close()
	login, err := cmd.allow(ctx, c, credential.Settings, listener)
	if err != nil && cmd.MCP != "" {
		return withHint(err, fmt.Sprintf("the credential is stored; sallyport credential login %s goes on", cmd.Credential))
	}
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

// known gives a credential that was stored, and listens where its code comes to.
func (cmd *credentialLoginCmd) known(ctx context.Context, api *client.Client, team, vault, name string) (control.Credential, net.Listener, error) {
	credential, err := api.Credential(ctx, team, vault, name)
	if err != nil {
		return credential, nil, err
	}
	if credential.Auth != control.AuthOAuthRefresh || credential.Settings["auth_url"] == "" {
		return credential, nil, withHint(fmt.Errorf("nobody can log in for %s: it is not of auth oauth_refresh with the setting auth_url", cmd.Credential), "docs/auth.md shows how such a credential is stored")
	}
	listener, err := listenForCode(credential.Settings["redirect_uri"])
	return credential, listener, err
}

// discover has a credential made for an MCP server, whose code comes to where it listens.
func (cmd *credentialLoginCmd) discover(ctx context.Context, c *cli, api *client.Client, team, vault, name string) (control.Credential, net.Listener, error) {
	listener, err := listenForCode("")
	if err != nil {
		return control.Credential{}, nil, err
	}
	credential, err := api.DiscoverCredential(ctx, team, vault, client.Discovery{
		Name: name, URL: cmd.MCP, RedirectURI: redirectTo(listener), Scope: cmd.Scope, Hosts: cmd.EndpointHost,
	})
	if err != nil {
		listener.Close()
		return credential, nil, err
	}
	c.warnOf(credential.Warning)
	fmt.Fprintf(c.stderr, "%s\n", visible(fmt.Sprintf("credential %s is stored for %s; who gives its tokens is %s, which is asked for %s",
		cmd.Credential, strings.Join(credential.Hosts, ", "), credential.Settings["issuer"], first(credential.Settings["scope"], "no scope"))))
	return credential, listener, nil
}

// allow gives what the browser brings back.
func (cmd *credentialLoginCmd) allow(ctx context.Context, c *cli, s control.Settings, listener net.Listener) (client.CredentialLogin, error) {
	redirect := first(s["redirect_uri"], redirectTo(listener))
	back, err := newCallback(redirect, s["issuer"], func(q url.Values) error {
		return fmt.Errorf("it was not allowed: %s", oauthError(q.Get("error")))
	})
	if err != nil {
		return client.CredentialLogin{}, err
	}
	back.named = s["iss"] != ""
	if u, err := url.Parse(s["auth_url"]); err != nil || u.Scheme != "https" || u.Host == "" {
		return client.CredentialLogin{}, errors.New("the setting auth_url is no https:// address, so no browser is sent there")
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
func listenForCode(known string) (net.Listener, error) {
	address := "127.0.0.1:0"
	if known != "" {
		u, err := url.Parse(known)
		if err != nil {
			return nil, fmt.Errorf("read the setting redirect_uri: %w", err)
		}
		if u.Scheme != "http" || u.Path == "/console/authorized" {
			return nil, withHint(fmt.Errorf("the client is registered to come back to the web console, %s", known), "log in for the credential there: its page has the button \"Log in\"")
		}
		address = u.Host
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the browser: %w", err)
	}
	return listener, nil
}

// redirectTo is where codes come to listener.
func redirectTo(listener net.Listener) string {
	return "http://" + listener.Addr().String() + "/callback"
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
