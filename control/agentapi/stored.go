package agentapi

import (
	"context"
	"time"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/exchange"
	"sallyport/control/store"
)

// stored is a bound credential's secret (exchange.Stored).
type stored struct {
	server *Server
	bound  store.Bound
}

// Material is what is injected for a bound credential, which the caller wipes, and
// until when it holds.
func (s *Server) Material(ctx context.Context, bound store.Bound) (api.Material, time.Time, error) {
	return s.Exchange.Material(ctx, bound.Credential, stored{s, bound})
}

func (s stored) Open(ctx context.Context) (control.Secret, error) {
	return s.server.Secrets.Open(ctx, s.bound)
}

// Team implements exchange.Stored.
func (s stored) Team() string { return s.bound.Identity.Team }

// Alone implements exchange.Stored. It seals the new secret under the key of the old.
func (s stored) Alone(ctx context.Context, use func(context.Context, control.Secret, exchange.Minted) (exchange.Minted, error)) (exchange.Minted, error) {
	sealer, id := s.server.Sealer, s.bound.Identity
	mintedID := id
	mintedID.Field = control.FieldMinted
	var minted exchange.Minted
	err := s.server.Store.Alone(ctx, id.Team, id.Credential, id.Version, func(ctx context.Context, kept store.Kept) (store.Kept, error) {
		secret, err := sealer.Open(ctx, kept.Key, id, kept.Secret)
		if err != nil {
			return kept, err
		}
		defer secret.Wipe()
		last := exchange.Minted{}
		if kept.Minted.Ciphertext != nil {
			// One that does not open is one that there is not: another is minted.
			if token, err := sealer.Open(ctx, kept.Key, mintedID, kept.Minted); err == nil {
				last = exchange.Minted{Material: api.Material{Token: token}, Expiry: kept.Expiry}
				defer last.Wipe()
			}
		}
		if minted, err = use(ctx, secret, last); err != nil {
			return kept, err
		}
		kept.Expiry = minted.Expiry
		if kept.Minted, err = sealer.Seal(ctx, kept.Key, mintedID, minted.Material.Token); err != nil {
			return kept, err
		}
		if minted.Secret != nil {
			kept.Secret, err = sealer.Seal(ctx, kept.Key, id, minted.Secret)
		}
		return kept, err
	})
	minted.Secret.Wipe()
	minted.Secret = nil
	if err != nil {
		minted.Wipe()
		return exchange.Minted{}, err
	}
	return minted, nil
}
