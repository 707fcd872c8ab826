// Package exchange turns a stored secret into the short-lived material that a
// sidecar injects, so that what is stored stays here wherever there is something
// shorter. Each auth kind is one file; kinds.go has the list.
package exchange

import (
	"context"
	"net/http"
	"slices"
	"time"

	"sallyport/control"
	"sallyport/control/api"
)

// Stored is a credential's secret where it is stored.
type Stored interface {
	// Open gives the secret, which the caller wipes.
	Open(context.Context) (control.Secret, error)
}

// Minted is what an exchange gives.
type Minted struct {
	Material api.Material   // shares no memory with the secret
	Expiry   time.Time      // zero: it has none of its own
	Secret   control.Secret // takes the place of the stored one; nil: that stays
}

// Exchanger gives the material of credentials. It is safe for concurrent use.
type Exchanger struct {
	kinds  map[control.Auth]Kind
	client *http.Client
}

// New makes an Exchanger of the kinds that there are.
func New() *Exchanger {
	return &Exchanger{kinds: kinds(), client: http.DefaultClient}
}

// Material gives what a sidecar injects for a credential, which the caller wipes,
// and until when.
func (x *Exchanger) Material(ctx context.Context, c control.Credential, stored Stored) (api.Material, time.Time, error) {
	kind, err := x.kind(c)
	if err != nil {
		return api.Material{}, time.Time{}, err
	}
	secret, err := stored.Open(ctx)
	if err != nil {
		return api.Material{}, time.Time{}, err
	}
	defer secret.Wipe()
	minted, err := kind.Exchange(ctx, x.client, c, secret)
	return minted.Material, minted.Expiry, err
}

func clone(secret control.Secret) []byte { return slices.Clone([]byte(secret)) }
