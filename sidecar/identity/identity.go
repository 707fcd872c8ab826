// Package identity is who a sidecar is to the control plane: a key made in
// memory, the certificate a join token was traded for, and its renewal.
package identity

import (
	"context"
	"crypto/hpke"
	"errors"
	"log/slog"

	"sallyport/control/api"
)

var (
	// ErrJoinToken is a join token that can't be used, or not any more.
	ErrJoinToken = errors.New("join token refused")
	// ErrRevoked is the control plane refusing to renew: the sandbox was revoked or locked.
	ErrRevoked = errors.New("the sandbox was revoked")
	// ErrExpired is a certificate that expired too long ago to be renewed.
	ErrExpired = errors.New("the certificate expired too long ago to be renewed")
)

// State is a marshalled Identity. It holds private keys, and shows itself as [redacted].
type State []byte

// Identity is a sandbox's certificate, its keys, and the connection to the
// control plane that they authenticate.
type Identity struct {
	Log *slog.Logger // nil: slog.Default
}

// Enroll trades a join token, which it wipes, for an identity.
func Enroll(ctx context.Context, controlURL string, joinToken []byte, version string) (*Identity, error) {
	panic("being built")
}

// Restore makes an Identity from what Marshal gave.
func Restore(controlURL string, state []byte) (*Identity, error) { panic("being built") }

// Marshal gives all that a restarted worker needs to go on as this sandbox.
func (i *Identity) Marshal() (State, error) { panic("being built") }

// Client calls the control plane, always with the newest certificate.
func (i *Identity) Client() api.SidecarServiceClient { panic("being built") }

// SealKey is what material is sealed to.
func (i *Identity) SealKey() hpke.PrivateKey { panic("being built") }

// Team is the name of the sandbox's team.
func (i *Identity) Team() string { panic("being built") }

// Agent is the name of the agent the sandbox is an instance of.
func (i *Identity) Agent() string { panic("being built") }

// Sandbox is the sandbox's id.
func (i *Identity) Sandbox() string { panic("being built") }

// Run renews the certificate until ctx ends, and calls onRenew after each
// renewal. It returns nil when ctx ends; ErrRevoked or ErrExpired when there is nothing left to renew.
func (i *Identity) Run(ctx context.Context, onRenew func()) error { panic("being built") }

// Close closes the connections to the control plane.
func (i *Identity) Close() { panic("being built") }
