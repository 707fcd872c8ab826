package admin

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
	"sallyport/control/store"
)

// SourcePath names a source of a vault.
type SourcePath struct {
	VaultPath
	Source string `path:"source" doc:"The source's name"`
}

// newSource is a source to be made.
type newSource struct {
	Name     string           `json:"name" maxLength:"63"`
	Kind     string           `json:"kind" maxLength:"32" doc:"One of docs/external.md"`
	Settings control.Settings `json:"settings,omitempty" doc:"Where the store is, by name, and what is not secret of what opens it"`
	Secret   secret           `json:"secret"`
}

// Wipe overwrites the secret.
func (n *newSource) Wipe() { n.Secret.Wipe() }

func (s *Server) sourceRoutes(api huma.API) {
	const sources = "/v1/teams/{team}/vaults/{vault}/sources"
	route(s, api, huma.Operation{
		OperationID: "list-sources", Method: http.MethodGet, Path: sources, Summary: "Stores outside that credentials of the vault may have their secrets in",
	}, func(ctx context.Context, in *vaultPage) (*answer[list[control.Source]], error) {
		return items(s.Store.Sources(ctx, teamOf(ctx).ID, in.Vault, in.page()))
	})
	routeBody(s, api, huma.Operation{
		OperationID: "create-source", Method: http.MethodPost, Path: sources, Summary: "Name a store of secrets, with what opens it",
	}, s.createSource)
	route(s, api, huma.Operation{
		OperationID: "get-source", Method: http.MethodGet, Path: sources + "/{source}", Summary: "One source, without what opens it",
	}, func(ctx context.Context, in *SourcePath) (*answer[control.Source], error) {
		sealed, err := s.Store.Source(ctx, teamOf(ctx).ID, in.Vault, in.Source)
		return one(sealed.Source, err)
	})
	routeBody(s, api, huma.Operation{
		OperationID: "rotate-source", Method: http.MethodPost, Path: sources + "/{source}/rotate", DefaultStatus: http.StatusOK,
		Summary: "Store another secret that opens it",
	}, s.rotateSource)
	route(s, api, huma.Operation{
		OperationID: "delete-source", Method: http.MethodDelete, Path: sources + "/{source}", Summary: "Forget a source that no credential has its secret in",
	}, func(ctx context.Context, in *SourcePath) (*struct{}, error) {
		return nil, s.Store.DeleteSource(ctx, teamOf(ctx).ID, in.Vault, in.Source, act(ctx, "source.delete", in.Vault+"/"+in.Source))
	})
}

func (s *Server) createSource(ctx context.Context, in *VaultPath, body *newSource) (*answer[control.Source], error) {
	defer body.Wipe()
	source := control.Source{ID: store.NewID(), Vault: in.Vault, Name: body.Name, Kind: body.Kind, Settings: body.Settings, Version: 1}
	if err := control.CheckName("source", source.Name); err != nil {
		return nil, err
	}
	if err := s.Secrets.Check(source); err != nil {
		return nil, err
	}
	if err := s.Secrets.CheckSecret(source, body.Secret.Secret); err != nil {
		return nil, err
	}
	team := teamOf(ctx).ID
	vault, err := s.Store.Vault(ctx, team, in.Vault)
	if err != nil {
		return nil, err
	}
	act := act(ctx, "source.create", fmt.Sprintf("%s/%s: %s%s", vault.Name, source.Name, source.Kind, described(source.Settings)))
	wanted := source
	err = s.sealingBy(ctx, vault.ID, s.opener(ctx, vault.ID, wanted, body.Secret.Secret), func(sealed control.SealedSecret) (err error) {
		source, err = s.Store.CreateSource(ctx, team, vault.ID, wanted, sealed, act)
		return err
	})
	return one(source, err)
}

func (s *Server) rotateSource(ctx context.Context, in *SourcePath, body *newSecret) (*answer[control.Source], error) {
	defer body.Wipe()
	team := teamOf(ctx).ID
	known, err := s.Store.Source(ctx, team, in.Vault, in.Source)
	if err != nil {
		return nil, err
	}
	source, next := known.Source, known.Source
	next.Version++
	if err := s.Secrets.CheckSecret(source, body.Secret.Secret); err != nil {
		return nil, err
	}
	err = s.sealingBy(ctx, known.Identity.Vault, s.opener(ctx, known.Identity.Vault, next, body.Secret.Secret), func(sealed control.SealedSecret) (err error) {
		next, err = s.Store.RotateSource(ctx, team, source.ID, source.Version, sealed, act(ctx, "source.rotate", in.Vault+"/"+in.Source))
		return err
	})
	return one(next, err)
}

// opener seals what opens a source.
func (s *Server) opener(ctx context.Context, vaultID string, source control.Source, secret control.Secret) func(control.WrappedKey) (control.SealedSecret, error) {
	id := control.SecretIdentity{Team: teamOf(ctx).ID, Vault: vaultID, Credential: source.ID, Version: source.Version, Field: control.FieldSource}
	return func(key control.WrappedKey) (control.SealedSecret, error) { return s.Sealer.Seal(ctx, key, id, secret) }
}
