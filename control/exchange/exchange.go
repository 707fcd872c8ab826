// Package exchange turns a stored secret into the short-lived material that a
// sidecar injects, so that what is stored stays here wherever there is something
// shorter. Each auth kind is one file; kinds.go has the list.
package exchange

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/turns"
)

// Stored is a credential's secret where it is stored.
type Stored interface {
	// Team is the id of whose it is.
	Team() string
	// Open gives the secret, which the caller wipes.
	Open(context.Context) (control.Secret, error)
	// Alone waits for its turn and calls use while nobody else, in any replica, is at the
	// secret, with the secret and what was minted of it last. What use gives is stored
	// before Alone returns it: the new secret, if there is one, in the place of the old.
	// Alone wipes what it passes to use.
	Alone(ctx context.Context, use func(ctx context.Context, secret control.Secret, last Minted) (Minted, error)) (Minted, error)
}

// Minted is what an exchange gives.
type Minted struct {
	Material api.Material   // shares no memory with the secret
	Expiry   time.Time      // zero: it has none of its own
	Secret   control.Secret // takes the place of the stored one; nil: that stays
}

// Wipe overwrites what is secret of m.
func (m *Minted) Wipe() {
	m.Material.Wipe()
	m.Secret.Wipe()
}

// Exchanger gives the material of credentials. It is safe for concurrent use.
type Exchanger struct {
	kinds  map[control.Auth]Kind
	client *http.Client
	kept   *kept
	turns  *turns.Turns
}

// maxExchanges may be under way at once, maxOfTeam of a team. Those that use secrets up
// are not among them: Stored.Alone bounds them.
const (
	maxExchanges = 256
	maxOfTeam    = 8
)

var errNoTurn = control.Errorf(control.CodeExchange, "too many exchanges are under way: try again")

// New makes an Exchanger of the kinds that there are. client is NewClient's.
func New(client *http.Client, log *slog.Logger) *Exchanger {
	return &Exchanger{kinds: kinds(), client: client, kept: newKept(log), turns: turns.New(maxExchanges, maxOfTeam)}
}

// Close waits for the exchanges that are under way, and wipes what is kept. Material
// then fails for what has to be exchanged.
func (x *Exchanger) Close() {
	x.kept.close()
	x.client.CloseIdleConnections()
}

// Material gives what a sidecar injects for a credential, which the caller wipes,
// and until when. For a kind that asks another server it waits a few seconds at
// most; its error is then of control.CodeExchange.
func (x *Exchanger) Material(ctx context.Context, c control.Credential, stored Stored) (api.Material, time.Time, error) {
	kind, err := x.kind(c)
	if err != nil {
		return api.Material{}, time.Time{}, err
	}
	if kind.Remote {
		return x.kept.material(ctx, c, func(ctx context.Context, known time.Time) (Minted, error) {
			return x.mint(ctx, kind, c, stored, known)
		})
	}
	minted, err := x.exchange(ctx, kind, c, stored)
	return minted.Material, minted.Expiry, err
}

func (x *Exchanger) exchange(ctx context.Context, kind Kind, c control.Credential, stored Stored) (Minted, error) {
	secret, err := stored.Open(ctx)
	if err != nil {
		return Minted{}, err
	}
	defer secret.Wipe()
	return kind.Exchange(ctx, x.client, c, secret)
}

// mint asks the other server, unless another replica has since that gave what expires
// at known.
func (x *Exchanger) mint(ctx context.Context, kind Kind, c control.Credential, stored Stored, known time.Time) (Minted, error) {
	if !kind.Rotates {
		end, ok := x.turns.Take(ctx, stored.Team())
		if !ok {
			return Minted{}, errNoTurn
		}
		defer end()
		return x.exchange(ctx, kind, c, stored)
	}
	return stored.Alone(ctx, func(ctx context.Context, secret control.Secret, last Minted) (Minted, error) {
		if time.Until(last.Expiry) > lastMoments && last.Expiry.Sub(known) > time.Second {
			return Minted{Material: api.Material{Token: clone(last.Material.Token)}, Expiry: last.Expiry}, nil
		}
		return kind.Exchange(ctx, x.client, c, secret)
	})
}

func clone(secret control.Secret) []byte { return slices.Clone([]byte(secret)) }
