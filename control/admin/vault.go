package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
	"sallyport/control/store"
)

// VaultPath names a vault of a team.
type VaultPath struct {
	TeamPath
	Vault string `path:"vault" doc:"The vault's name"`
}

type vaultPage struct {
	VaultPath
	PageQuery
}

func (s *Server) vaultRoutes(api huma.API) {
	const vaults = "/v1/teams/{team}/vaults"
	route(s, api, huma.Operation{
		OperationID: "list-vaults", Method: http.MethodGet, Path: vaults, Summary: "The team's vaults",
	}, func(ctx context.Context, in *teamPage) (*answer[list[control.Vault]], error) {
		return items(s.Store.Vaults(ctx, teamOf(ctx).ID, in.page()))
	})
	routeBody(s, api, huma.Operation{
		OperationID: "create-vault", Method: http.MethodPost, Path: vaults, Summary: "Make a vault",
	}, s.createVault)
	route(s, api, huma.Operation{
		OperationID: "get-vault", Method: http.MethodGet, Path: vaults + "/{vault}", Summary: "One vault",
	}, func(ctx context.Context, in *VaultPath) (*answer[control.Vault], error) {
		return one(s.Store.Vault(ctx, teamOf(ctx).ID, in.Vault))
	})
	route(s, api, huma.Operation{
		OperationID: "delete-vault", Method: http.MethodDelete, Path: vaults + "/{vault}",
		Summary: "Remove a vault: its data key is destroyed, and with it every secret in it",
	}, func(ctx context.Context, in *VaultPath) (*struct{}, error) {
		_, err := s.Store.DeleteVault(ctx, teamOf(ctx).ID, in.Vault, act(ctx, "vault.delete", in.Vault))
		return nil, err
	})
}

func (s *Server) createVault(ctx context.Context, _ *TeamPath, body *named) (*answer[control.Vault], error) {
	if err := control.CheckName("vault", body.Name); err != nil {
		return nil, err
	}
	team := teamOf(ctx).ID
	vault := control.Vault{ID: store.NewID(), Name: body.Name}
	key, err := s.Sealer.NewDataKey(ctx, team, vault.ID)
	if err != nil {
		return nil, err
	}
	return one(s.Store.CreateVault(ctx, team, vault, key, act(ctx, "vault.create", vault.Name)))
}
