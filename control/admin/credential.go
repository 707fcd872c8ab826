package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
	"sallyport/control/exchange"
	"sallyport/control/store"
)

// CredentialPath names a credential of a vault.
type CredentialPath struct {
	VaultPath
	Credential string `path:"credential" doc:"The credential's name"`
}

// newCredential is a credential to be stored. What is left out comes from the
// service, or is the usual.
type newCredential struct {
	Name           string           `json:"name" maxLength:"63" doc:"Its placeholder is vault:NAME"`
	Service        string           `json:"service,omitempty" doc:"One of /v1/services: gives hosts, auth, rules, stray policy, allow_websocket and placeholders"`
	Hosts          []string         `json:"hosts,omitempty" doc:"NAME, *.NAME (one label), NAME:PORT. In the place of the service's, if both are given."`
	Inject         []control.Rule   `json:"inject,omitempty" doc:"bearer, basic, header:NAME: TEMPLATE, default:NAME: TEXT (where the client sent none), query:NAME, cookie:NAME, path:TEMPLATE"`
	Auth           control.Auth     `json:"auth,omitempty" pattern:"^[a-z0-9_]{1,32}$" doc:"What the secret is: token, basic, or another of the kinds in docs/auth.md"`
	Username       string           `json:"username,omitempty" doc:"Of basic"`
	Settings       control.Settings `json:"settings,omitempty" doc:"What the auth kind has to know beside the secret, by name; not secret"`
	Stray          control.Stray    `json:"stray,omitempty" enum:"block,literal,redact"`
	AllowHTTP      bool             `json:"allow_http,omitempty" doc:"May be sent without TLS"`
	AllowWebsocket *bool            `json:"allow_websocket,omitempty" doc:"A WebSocket may be opened with it; the service's, if that is left out"`
	Mints          []control.Mint   `json:"mints,omitempty" doc:"What becomes of new secrets that the service hands out: ACTION [METHOD,…] /PATH [PLACE…] …, ACTION one of allow, refuse, strip, capture. The first that fits decides; the service's come after them."`
	Limits         limitChanges     `json:"limits,omitzero"`
	RotateEvery    control.Days     `json:"rotate_every,omitzero" doc:"After how long somebody is to be reminded to rotate it, as in 90d"`
	From           *control.Place   `json:"from,omitempty" doc:"SOURCE:PATH, SOURCE:PATH#FIELD or SOURCE:PATH#NAME=FIELD,…: where the secret lies in a source of the vault, in the place of secret"`
	Secret         secret           `json:"secret,omitzero" doc:"Or else from"`
}

// changes are what can be changed of a credential, beside its secret. What is left
// out stays as it is.
type changes struct {
	Mints    []control.Mint   `json:"mints,omitempty" doc:"In the place of its own; the service's come after them"`
	Limits   *limitChanges    `json:"limits,omitempty"`
	Settings control.Settings `json:"settings,omitempty" doc:"In the place of all that it has; makes a new version"`

	RotateEvery *control.Days `json:"rotate_every,omitempty" doc:"After how long somebody is to be reminded to rotate it, as in 90d; empty for never"`
}

// Wipe overwrites the secret.
func (c *newCredential) Wipe() { c.Secret.Wipe() }

func (s *Server) credentialRoutes(api huma.API) {
	const credentials = "/v1/teams/{team}/vaults/{vault}/credentials"
	route(s, api, huma.Operation{
		OperationID: "list-credentials", Method: http.MethodGet, Path: credentials, Summary: "The vault's credentials, without their secrets",
	}, func(ctx context.Context, in *vaultPage) (*answer[list[control.Credential]], error) {
		return items(s.Store.Credentials(ctx, teamOf(ctx).ID, in.Vault, in.page()))
	})
	routeBody(s, api, huma.Operation{
		OperationID: "create-credential", Method: http.MethodPost, Path: credentials, Summary: "Store a credential",
	}, s.createCredential)
	route(s, api, huma.Operation{
		OperationID: "get-credential", Method: http.MethodGet, Path: credentials + "/{credential}", Summary: "One credential, without its secret",
	}, func(ctx context.Context, in *CredentialPath) (*tagged[control.Credential], error) {
		return s.credentialWithUsage(ctx, in)
	})
	routeBody(s, api, huma.Operation{
		OperationID: "update-credential", Method: http.MethodPatch, Path: credentials + "/{credential}", DefaultStatus: http.StatusOK,
		Summary: "Change its limits, the settings of its auth kind, when it is due to be rotated, or what becomes of new secrets that its service hands out, in running sandboxes too",
	}, s.updateCredential)
	routeBody(s, api, huma.Operation{
		OperationID: "rotate-credential", Method: http.MethodPost, Path: credentials + "/{credential}/rotate", DefaultStatus: http.StatusOK,
		Summary: "Store a new secret and push it to every connected sidecar",
	}, s.rotateCredential)
	routeBody(s, api, huma.Operation{
		OperationID: "login-credential", Method: http.MethodPost, Path: credentials + "/{credential}/login", DefaultStatus: http.StatusOK,
		Summary: "Exchange an authorization code for the refresh token of an oauth_refresh credential, and store that",
	}, s.loginCredential)
	route(s, api, huma.Operation{
		OperationID: "refresh-credential", Method: http.MethodPost, Path: credentials + "/{credential}/refresh", DefaultStatus: http.StatusOK,
		Summary: "Read a secret anew that lies in a source, and push it as a new version to every connected sidecar",
	}, s.refreshCredential)
	route(s, api, huma.Operation{
		OperationID: "delete-credential", Method: http.MethodDelete, Path: credentials + "/{credential}", Summary: "Remove a credential and every version of its secret",
	}, func(ctx context.Context, in *CredentialPath) (*struct{}, error) {
		_, err := s.Store.DeleteCredential(ctx, teamOf(ctx).ID, in.Vault, in.Credential, act(ctx, "credential.delete", in.Vault+"/"+in.Credential))
		return nil, err
	})
}

func (s *Server) createCredential(ctx context.Context, in *VaultPath, body *newCredential) (*tagged[control.Credential], error) {
	defer body.Wipe()
	c, err := s.credential(body)
	if err != nil {
		return nil, err
	}
	if c.From != nil {
		return s.createReference(ctx, in, c, body)
	}
	if err := s.Exchange.CheckSecret(c, body.Secret.Secret); err != nil {
		return nil, err
	}
	team := teamOf(ctx).ID
	vault, err := s.Store.Vault(ctx, team, in.Vault)
	if err != nil {
		return nil, err
	}
	c.ID, c.Vault, c.Version = store.NewID(), vault.Name, 1
	wanted := c
	err = s.sealing(ctx, vault.ID, c.ID, c.Version, body.Secret.Secret, func(sealed control.SealedSecret) (err error) {
		c, _, err = s.Store.CreateCredential(ctx, team, vault.ID, wanted, sealed, act(ctx, "credential.create", wanted.Vault+"/"+wanted.Name))
		return err
	})
	tag := credentialTag(c)
	c.Warning = exchange.Weakness(c, body.Secret.Secret)
	return versioned(c, tag, err)
}

// credentialPatch is what a change of a credential names.
type credentialPatch struct {
	CredentialPath
	IfMatch
}

// credentialTag is the entity tag of a credential.
func credentialTag(c control.Credential) string { return etag(c) }

func (s *Server) updateCredential(ctx context.Context, in *credentialPatch, body *changes) (*tagged[control.Credential], error) {
	if err := in.required(); err != nil {
		return nil, err
	}
	limited := body.Limits != nil && !body.Limits.empty()
	kinds := 0
	for _, given := range []bool{limited, body.Settings != nil, body.Mints != nil, body.RotateEvery != nil} {
		if given {
			kinds++
		}
	}
	switch {
	case kinds == 0: // and not "take all of the mints away", by an empty body
		return nil, control.Errorf(control.CodeInvalid, "there is nothing to change: give mints, [] for none, settings, limits or rotate_every")
	case kinds > 1:
		return nil, control.Errorf(control.CodeInvalid, "give mints, settings, limits or rotate_every: each is a change of its own")
	case limited:
		return s.setLimits(ctx, in, body.Limits)
	case body.RotateEvery != nil:
		return s.setRotateEvery(ctx, in, *body.RotateEvery)
	case body.Settings != nil:
		return s.updateSettings(ctx, in, body)
	}
	mints, err := checkMints(body.Mints)
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(mints))
	for i, m := range mints {
		texts[i] = m.String()
	}
	detail := in.Vault + "/" + in.Credential + ": mints " + strings.Join(texts, "; ")
	unchanged := func(c control.Credential) error { return in.check(credentialTag(c)) }
	c, _, err := s.Store.SetMints(ctx, teamOf(ctx).ID, in.Vault, in.Credential, mints, unchanged, act(ctx, "credential.update", detail))
	return versioned(c, credentialTag(c), err)
}

// sealing stores one version of a secret of the caller's team, encrypted. A data key
// that was replaced in between costs another try.
func (s *Server) sealing(ctx context.Context, vaultID, credentialID string, version int64, value control.Secret, put func(control.SealedSecret) error) error {
	id := control.SecretIdentity{Team: teamOf(ctx).ID, Vault: vaultID, Credential: credentialID, Version: version, Field: control.FieldSecret}
	return s.sealingBy(ctx, vaultID, func(key control.WrappedKey) (control.SealedSecret, error) { return s.Sealer.Seal(ctx, key, id, value) }, put)
}

// sealingBy stores what seal makes under a vault's data key.
func (s *Server) sealingBy(ctx context.Context, vaultID string, seal func(control.WrappedKey) (control.SealedSecret, error), put func(control.SealedSecret) error) error {
	for try := 1; ; try++ {
		key, err := s.Store.VaultKey(ctx, teamOf(ctx).ID, vaultID)
		if err != nil {
			return err
		}
		sealed, err := seal(key)
		if err != nil {
			return err
		}
		if err = put(sealed); !errors.Is(err, store.ErrKeyReplaced) || try == 3 {
			return err
		}
	}
}

// seal encrypts one version of a secret of the caller's team.
func (s *Server) seal(ctx context.Context, vaultID, credentialID string, version int64, value control.Secret) (control.SealedSecret, error) {
	team := teamOf(ctx).ID
	key, err := s.Store.VaultKey(ctx, team, vaultID)
	if err != nil {
		return control.SealedSecret{}, err
	}
	return s.Sealer.Seal(ctx, key, control.SecretIdentity{
		Team: team, Vault: vaultID, Credential: credentialID, Version: version, Field: control.FieldSecret,
	}, value)
}
