// Package identity is who a sidecar is to the control plane: a key made in
// memory, the certificate a join token was traded for, and its renewal.
package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"sallyport/control/api"
)

var (
	// ErrJoinToken is a join token that can't be used, or not any more.
	ErrJoinToken = errors.New("the join token was refused")
	// ErrUntrusted is a server that is not the control plane the sandbox was made by.
	ErrUntrusted = errors.New("the server is not this sandbox's control plane")
	// ErrRevoked is the control plane refusing to renew: the sandbox was revoked or locked.
	ErrRevoked = errors.New("the sandbox was revoked or locked")
	// ErrExpired is a certificate that expired too long ago to be renewed.
	ErrExpired = errors.New("the certificate expired too long ago to be renewed")
)

// Identity is a sandbox's certificate, its keys, and the connection to the
// control plane that they authenticate.
type Identity struct {
	Log *slog.Logger // nil: slog.Default; set before Run

	key  *ecdsa.PrivateKey
	csr  []byte // of the renewal that is tried; nil: of none yet
	seal hpke.PrivateKey

	unconfirmed bool // the control plane may not know that the last renewal has arrived

	team, agent, sandbox string
	worker               uint64 // counts the workers that have served the sandbox, from 1

	certificate atomic.Pointer[certificate]
	link        *link
	clock       clock
	client      api.SidecarServiceClient
}

// newIdentity is an Identity with fresh keys, known to nobody.
func newIdentity() (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the sandbox's key: %w", err)
	}
	csr, err := newCSR(key)
	if err != nil {
		return nil, err
	}
	seal, err := api.GenerateSealKey()
	if err != nil {
		return nil, fmt.Errorf("make the seal key: %w", err)
	}
	return &Identity{key: key, csr: csr, seal: seal, worker: 1}, nil
}

// newCSR makes a certificate request whose bytes were never sent before: by them
// the control plane tells one sandbox that asks again from two with one key.
func newCSR(key *ecdsa.PrivateKey) ([]byte, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate request: %w", err)
	}
	return csr, nil
}

// connect makes the client that presents the newest certificate and trusts its roots.
func (i *Identity) connect(controlURL string) error {
	link, err := newLink(controlURL, i.worker, &i.clock,
		func() *tls.Certificate { return &i.certificate.Load().tls },
		func() []string { return i.certificate.Load().trusts() },
		func(state tls.ConnectionState) error { return verifyServer(state, i.certificate.Load().roots) })
	if err != nil {
		return err
	}
	i.link, i.client = link, link.client()
	return nil
}

// Client calls the control plane, always with the newest certificate.
func (i *Identity) Client() api.SidecarServiceClient { return i.client }

// SealKey is what material is sealed to.
func (i *Identity) SealKey() hpke.PrivateKey { return i.seal }

// Team is the name of the sandbox's team.
func (i *Identity) Team() string { return i.team }

// Agent is the name of the agent the sandbox is an instance of.
func (i *Identity) Agent() string { return i.agent }

// Sandbox is the sandbox's id.
func (i *Identity) Sandbox() string { return i.sandbox }

// Close closes the idle connections to the control plane.
func (i *Identity) Close() { i.link.close() }

func (i *Identity) log() *slog.Logger {
	if i.Log != nil {
		return i.Log
	}
	return slog.Default()
}
