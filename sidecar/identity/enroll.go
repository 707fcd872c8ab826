package identity

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"sallyport/control/api"
)

const (
	enrollPatience = 30 * time.Second // for a control plane that can't be reached
	enrollTimeout  = 15 * time.Second // for its answer

	makeAnother = "make a new one with `sallyport sandbox create --agent A`"
)

// Enroll trades a join token for an identity, and wipes the token whatever
// happens. It waits for a control plane that can't be reached, for at most half
// a minute. Once the request has left it is not repeated: a second use of the
// token would lock the sandbox.
func Enroll(ctx context.Context, controlURL string, joinToken []byte, version string) (*Identity, error) {
	defer clear(joinToken)
	fingerprint, err := parseJoinToken(joinToken)
	if err != nil {
		return nil, err
	}
	i, err := newIdentity()
	if err != nil {
		return nil, err
	}
	stranger, err := i.selfSigned()
	if err != nil {
		return nil, err
	}
	link, err := newLink(controlURL, i.worker, &i.clock,
		func() *tls.Certificate { return stranger },
		func() []string { return []string{api.TrustedBy(fingerprint)} },
		func(state tls.ConnectionState) error { return verifyFingerprint(state, fingerprint) })
	if err != nil {
		return nil, err
	}
	defer link.close()
	response, err := enroll(ctx, link, &api.EnrollRequest{
		JoinToken: string(bytes.TrimSpace(joinToken)), // can't be wiped, but is worthless once sent
		Csr:       i.csr,
		SealKey:   i.seal.PublicKey().Bytes(),
		Version:   version,
	})
	if err != nil {
		return nil, enrollError(controlURL, err)
	}
	i.team, i.agent, i.sandbox = response.GetTeam(), response.GetAgent(), response.GetSandboxId()
	first, err := newCertificate(response.GetCertificate(), i.key, i.sandbox)
	if err != nil {
		return nil, err
	}
	i.certificate.Store(first)
	i.csr = nil
	return i, i.connect(controlURL)
}

// parseJoinToken gives the SHA-256 of the control plane's CA certificate that
// the token carries. Its errors never show the token.
func parseJoinToken(token []byte) (fingerprint [sha256.Size]byte, err error) {
	secret, pin, found := bytes.Cut(bytes.TrimSpace(token), []byte("."))
	secret, prefixed := bytes.CutPrefix(secret, []byte("sp_join_"))
	if !found || !prefixed || base64.RawURLEncoding.DecodedLen(len(secret)) != 32 {
		return fingerprint, fmt.Errorf("%w: it is not of the form sp_join_….…; %s", ErrJoinToken, makeAnother)
	}
	if base64.RawURLEncoding.DecodedLen(len(pin)) != len(fingerprint) {
		return fingerprint, fmt.Errorf("%w: it was cut short; %s", ErrJoinToken, makeAnother)
	}
	if _, err := base64.RawURLEncoding.Decode(fingerprint[:], pin); err != nil {
		return fingerprint, fmt.Errorf("%w: it was changed on its way; %s", ErrJoinToken, makeAnother)
	}
	return fingerprint, nil
}

// selfSigned is the certificate of a client that has none yet. It proves the
// possession of the request's key.
func (i *Identity) selfSigned() (*tls.Certificate, error) {
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    now.Add(-time.Hour), // clocks differ
		NotAfter:     now.Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, i.key.Public(), i.key)
	if err != nil {
		return nil, fmt.Errorf("make a self-signed certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: i.key}, nil
}

// verifyFingerprint trusts only the root that the join token names, which the
// server sends with its chain.
func verifyFingerprint(state tls.ConnectionState, fingerprint [sha256.Size]byte) error {
	for _, root := range state.PeerCertificates {
		if sha256.Sum256(root.Raw) == fingerprint {
			domain := spiffeid.RequireTrustDomainFromString(trustDomainName)
			return verifyServer(state, x509bundle.FromX509Authorities(domain, []*x509.Certificate{root}))
		}
	}
	return fmt.Errorf("%w: its CA is not the one the join token names", ErrUntrusted)
}

func enroll(ctx context.Context, link *link, request *api.EnrollRequest) (*api.EnrollResponse, error) {
	client, retry := link.client(), backoff{least: 100 * time.Millisecond, most: 2 * time.Second}
	patience := time.Now().Add(enrollPatience)
	var before error // why the last try failed that was not cut off
	for {
		response, sent, err := enrollOnce(ctx, client, request)
		if err == nil {
			return response, nil
		}
		if ctx.Err() != nil && before != nil && !sent {
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), before)
		}
		before = err
		if sent || errors.Is(err, ErrUntrusted) || time.Now().After(patience) {
			return nil, err
		}
		if !retry.wait(ctx) {
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

func enrollOnce(ctx context.Context, client api.SidecarServiceClient, request *api.EnrollRequest) (_ *api.EnrollResponse, sent bool, _ error) {
	ctx, cancel := context.WithTimeout(ctx, enrollTimeout)
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	response, err := client.Enroll(ctx, connect.NewRequest(request))
	if err != nil {
		return nil, connected.Load(), err
	}
	return response.Msg, true, nil
}

// enrollError says what to do about err.
func enrollError(controlURL string, err error) error {
	switch connect.CodeOf(err) {
	case connect.CodeUnauthenticated, connect.CodePermissionDenied, connect.CodeNotFound:
		return fmt.Errorf("%w: it was used already or has expired: %s (%w)", ErrJoinToken, makeAnother, err)
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded:
		if !errors.Is(err, ErrUntrusted) && !connect.IsWireError(err) {
			return fmt.Errorf("the control plane at %s can't be reached; is it running, and is its address right? (%w)", controlURL, err)
		}
	}
	return fmt.Errorf("enrol at %s: %w", controlURL, err)
}
