package admin

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
	"sallyport/control/exchange"
)

// discovery is a server that says by itself who gives tokens for it.
type discovery struct {
	Name        string   `json:"name" maxLength:"63" doc:"Of the credential"`
	URL         string   `json:"url" maxLength:"512" doc:"Of the MCP server; the credential is bound to its host"`
	RedirectURI string   `json:"redirect_uri" maxLength:"512" doc:"Where codes are sent to, on loopback or credential_redirect_uri of GET /v1/info"`
	Scope       string   `json:"scope,omitempty" maxLength:"4096" doc:"In the place of what the server asks for"`
	Hosts       []string `json:"endpoint_hosts,omitempty" maxItems:"8" doc:"HOST[:PORT] where the authorization server may have endpoints, beside its issuer's"`
}

func (s *Server) discoveryRoutes(api huma.API) {
	routeBody(s, api, huma.Operation{
		OperationID: "discover-credential", Method: http.MethodPost, Path: "/v1/teams/{team}/vaults/{vault}/discover",
		Summary: "Find out who gives tokens for an MCP server, register a client there, and store an oauth_refresh credential that somebody can log in for",
	}, s.discoverCredential)
}

func (s *Server) discoverCredential(ctx context.Context, in *VaultPath, body *discovery) (*tagged[control.Credential], error) {
	if err := control.CheckName("credential", body.Name); err != nil {
		return nil, err
	}
	if u, err := url.Parse(body.URL); err == nil && u.Host != "" {
		if _, err := checkHosts([]string{u.Host}); err != nil { // before a client is registered
			return nil, err
		}
	}
	team := teamOf(ctx).ID
	vault, err := s.Store.Vault(ctx, team, in.Vault)
	if err != nil {
		return nil, err
	}
	if _, err := s.Store.Credential(ctx, team, vault.Name, body.Name); control.CodeOf(err) != control.CodeNotFound {
		if err == nil {
			err = control.Errorf(control.CodeConflict, "there is a credential %s in the vault %s: sallyport credential login %s/%s logs in for it anew", body.Name, vault.Name, vault.Name, body.Name)
		}
		return nil, err
	}
	leave, err := s.enterOutward(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	found, err := s.Exchange.Discover(ctx, exchange.Discovery{Resource: body.URL, RedirectURI: body.RedirectURI, Scope: body.Scope, Hosts: body.Hosts, Console: s.CodesTo})
	if err != nil {
		return nil, err
	}
	defer found.Secret.Wipe()
	wanted := &newCredential{
		Name: body.Name, Hosts: []string{found.Host}, Auth: control.AuthOAuthRefresh, Settings: found.Settings, Secret: secret{found.Secret},
	}
	stored, err := s.createCredential(ctx, in, wanted)
	if err == nil && !found.Ends.IsZero() {
		stored.Body.Warning = "the registration of the client ends on " + found.Ends.UTC().Format(time.DateTime)
	}
	return stored, err
}
