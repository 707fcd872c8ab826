package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
)

// loginTimeout bounds the wait for a person in a browser.
const loginTimeout = 10 * time.Minute

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
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	listener, redirect, err := listenForCode(s["redirect_uri"])
	if err != nil {
		return client.CredentialLogin{}, err
	}
	defer listener.Close()
	state, verifier := rand.Text(), oauth2.GenerateVerifier()
	config := oauth2.Config{ClientID: s["client_id"], RedirectURL: redirect, Scopes: strings.Fields(s["scope"]), Endpoint: oauth2.Endpoint{AuthURL: s["auth_url"]}}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(verifier)}
	if s["resource"] != "" {
		options = append(options, oauth2.SetAuthURLParam("resource", s["resource"])) // RFC 8707
	}
	address := config.AuthCodeURL(state, options...)
	fmt.Fprintf(c.stderr, "Allow it at\n\n  %s\n\n", visible(address))
	if cmd.Browser {
		openBrowser(address)
	}
	code, err := awaitCode(ctx, listener, redirect, state)
	if err != nil {
		return client.CredentialLogin{}, err
	}
	return client.CredentialLogin{Code: client.Outgoing{Secret: code}, Verifier: client.Outgoing{Secret: control.Secret(verifier)}, RedirectURI: redirect}, nil
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

// awaitCode answers the browser and gives the code that it brings. What comes without
// the state, from any page of the web, is answered and ignored.
func awaitCode(ctx context.Context, listener net.Listener, redirect, state string) (control.Secret, error) {
	u, err := url.Parse(redirect)
	if err != nil {
		return nil, err
	}
	type outcome struct {
		code control.Secret
		err  error
	}
	brought := make(chan outcome, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+cmp.Or(u.Path, "/"), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer")
		query := r.URL.Query()
		if subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(state)) != 1 {
			http.Error(w, "This is not the answer that sallyport waits for.", http.StatusBadRequest)
			return
		}
		o := outcome{code: control.Secret(query.Get("code"))}
		if len(o.code) == 0 {
			o.err = fmt.Errorf("it was not allowed: %s", oauthError(query.Get("error")))
		}
		fmt.Fprintln(w, "sallyport has what it needs; you can close this window.")
		select {
		case brought <- o:
		default:
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(end) != nil {
			server.Close()
		}
	}()
	select {
	case o := <-brought:
		return o.code, o.err
	case err := <-served:
		return nil, fmt.Errorf("listen for the browser: %w", err)
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, fmt.Errorf("nobody allowed it within %s", loginTimeout)
		}
		return nil, ctx.Err()
	}
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
