package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"sallyport/control"
	"sallyport/control/console"
	"sallyport/control/login"
)

// peopleFlags say who may log in, and how long tokens and sessions last.
type peopleFlags struct {
	OIDCIssuer           string        `name:"oidc-issuer" placeholder:"URL" help:"OpenID Connect issuer by which people log in ('sallyport login')."`
	OIDCClientID         string        `name:"oidc-client-id" placeholder:"ID" help:"What the issuer calls this control plane."`
	OIDCClientSecretFile string        `name:"oidc-client-secret-file" placeholder:"FILE" type:"path" help:"File of the client's secret, if it has one. It never leaves the control plane."`
	OIDCDomain           []string      `name:"oidc-domain" placeholder:"DOMAIN" help:"Only people with a verified address there may log in. May be repeated."`
	OIDCGroupsClaim      string        `name:"oidc-groups-claim" placeholder:"NAME" default:"groups" help:"The claim with a person's groups: a name, or a list of names or of SCIM objects (${default})."`
	OIDCRole             []string      `name:"oidc-role" sep:"none" placeholder:"GROUP=TEAM:ROLE" help:"Whoever is in GROUP has ROLE in TEAM, * for every team. May be repeated."`
	SessionIdle          time.Duration `default:"8h" placeholder:"DURATION" help:"A login ends when it was not used for so long (${default})."`
	SessionLifetime      time.Duration `default:"24h" placeholder:"DURATION" help:"A login ends after so long; roles are those of the groups at the login (${default})."`
	TokenMaxLifetime     time.Duration `placeholder:"DURATION" help:"How long new API tokens may live; those that say nothing live so long (any time, and without end)."`
}

// issuer is whom people log in by, nil if nobody does. consoleURL is where the console
// is for browsers, empty where that is not known.
func (f *peopleFlags) issuer(consoleURL string, log *slog.Logger) (*login.Issuer, error) {
	const least = 5 * time.Minute
	switch {
	case f.SessionIdle < least || f.SessionLifetime < f.SessionIdle:
		return nil, fmt.Errorf("--session-idle is %s at least, and --session-lifetime no less than that", least)
	case f.TokenMaxLifetime < 0:
		return nil, errors.New("--token-max-lifetime is a time above 0, as in 2160h")
	case f.OIDCIssuer == "" && (f.OIDCClientID != "" || f.OIDCClientSecretFile != "" || len(f.OIDCDomain)+len(f.OIDCRole) > 0):
		return nil, errors.New("--oidc-… flags are given without --oidc-issuer")
	case f.OIDCIssuer == "":
		return nil, nil
	}
	config := login.Config{
		Issuer: f.OIDCIssuer, ClientID: f.OIDCClientID, Domains: f.OIDCDomain, GroupsClaim: f.OIDCGroupsClaim,
	}
	if consoleURL != "" {
		var err error
		if config.Redirect, err = console.RedirectURL(consoleURL); err != nil {
			return nil, err
		}
	}
	for _, d := range f.OIDCDomain {
		if d == "" || strings.ContainsAny(d, "@* ") {
			return nil, fmt.Errorf("--oidc-domain %q: give it as in example.com", d)
		}
	}
	for _, text := range f.OIDCRole {
		m, err := login.ParseMapping(text)
		if err != nil {
			return nil, fmt.Errorf("--oidc-role: %w", err)
		}
		config.Mappings = append(config.Mappings, m)
	}
	if f.OIDCClientSecretFile != "" {
		content, err := os.ReadFile(f.OIDCClientSecretFile)
		if err != nil {
			return nil, fmt.Errorf("read --oidc-client-secret-file: %w", err)
		}
		if config.ClientSecret = control.Secret(bytes.TrimSpace(content)); len(config.ClientSecret) == 0 {
			return nil, errors.New("--oidc-client-secret-file: the file is empty")
		}
	}
	return login.New(config, log)
}
