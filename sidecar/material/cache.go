// Package material holds what is injected: it leases material from the control
// plane, keeps it while it may be used, and wipes it afterwards. It also follows
// the bindings that say which material there is.
package material

import (
	"context"
	"crypto/hpke"
	"errors"
	"log/slog"

	"connectrpc.com/connect"

	"sallyport/control/api"
)

var (
	// ErrSuperseded is a version that is not, or no longer, the one the bindings name: match the request again.
	ErrSuperseded = errors.New("the credential's version was superseded")
	// ErrRefused is the control plane refusing the material.
	ErrRefused = errors.New("the control plane refused the credential")
	// ErrUnavailable is the control plane being away, with no lease left that may be used.
	ErrUnavailable = errors.New("the control plane can't be reached and no lease of the credential is valid")
)

// Fetcher is the call that leases material.
type Fetcher interface {
	Fetch(context.Context, *connect.Request[api.FetchRequest]) (*connect.Response[api.FetchResponse], error)
}

// Cache holds the current leases.
type Cache struct{}

// NewCache makes a Cache that serves nothing until Keep names what it may.
func NewCache(client Fetcher, key hpke.PrivateKey, log *slog.Logger) *Cache { panic("being built") }

// Get leases the material of a credential. The caller must Release the lease.
func (c *Cache) Get(ctx context.Context, credentialID string, version uint64, host string) (*Lease, error) {
	panic("being built")
}

// Keep drops and wipes everything that is not exactly one of versions (credential id → version).
func (c *Cache) Keep(versions map[string]uint64) { c.Replace(versions, func() {}) }

// Replace is Keep, and calls publish before any Get can see the change: who then
// gets ErrSuperseded finds what publish put in place. publish must not use the Cache.
func (c *Cache) Replace(versions map[string]uint64, publish func()) { panic("being built") }

// Run refreshes leases ahead of time and wipes expired ones. When ctx ends it wipes everything and
// waits for the fetches under way; after that Get fails. So ctx should outlive the requests.
func (c *Cache) Run(ctx context.Context) error { panic("being built") }

// Lease is material in use.
type Lease struct{}

// Material is what is injected. It is valid until Release.
func (l *Lease) Material() api.Material { panic("being built") }

// ID is the lease's id, for audit.
func (l *Lease) ID() string { panic("being built") }

// Release ends the use; a second call does nothing.
func (l *Lease) Release() { panic("being built") }
