package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"

	"sallyport/e2e/stage"
)

// secret is what the sidecar injects until it is rotated.
const secret = "bench-key-0123456789abcdefghijklmnop"

// world is an origin and a control plane with the agents.
type world struct {
	options
	*stage.Stage
	ctx    context.Context
	origin string // IP address: HTTPS at 443, DNS at 53
}

func newWorld(ctx context.Context, o options) (*world, error) {
	s, err := stage.New(ctx, "bench", o.bin)
	if err != nil {
		return nil, err
	}
	w := &world{options: o, Stage: s, ctx: ctx}
	if err := w.begin(); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func (w *world) begin() error {
	if err := w.certify(); err != nil {
		return err
	}
	// An address of its own, so that its ports are free.
	w.origin = fmt.Sprintf("127.88.%d.%d", os.Getpid()>>8&0xff, os.Getpid()&0xff)
	if err := w.UseNames(w.origin); err != nil {
		return err
	}
	origin, err := w.Server(w.cores.Load, w.Self, "origin", w.origin, w.Path("cert.pem"), w.Path("key.pem"))
	if err != nil {
		return err
	}
	if err := w.Await(origin, func() error { return stage.Reachable(w.originAddress()) }); err != nil {
		return err
	}
	return w.control()
}

func (w *world) originAddress() string { return net.JoinHostPort(w.origin, "443") }

func (w *world) control() error {
	if err := w.StartControl(w.cores.Control); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"vault", "create", "bench"},
		{"credential", "add", "--vault", "bench", "--name", "key", "--host", "*." + keyedZone, "--inject", "bearer", "--secret-file", "-"},
		{"agent", "create", "bench"},
		{"agent", "pin", "bench", "bench"},
		{"team", "set", "--audit", w.audit},
	} {
		if _, err := w.CLI(secret, args...); err != nil {
			return err
		}
	}
	return nil
}

// certify writes the origin's certificate, which is its own authority, and one that the
// other proxies sign with.
func (w *world) certify() error {
	zones := []string{"*." + keyedZone, "*." + openZone, "*." + throughZone}
	if err := w.issue("ca.pem", "key.pem", zones); err != nil {
		return err
	}
	text, err := os.ReadFile(w.Path("ca.pem"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(w.Path("cert.pem"), text, 0o644); err != nil {
		return err
	}
	return w.issue("peer-ca.pem", "peer-ca.key", nil)
}

func (w *world) issue(certificate, key string, names []string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: certificate}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: encoded}} {
		var text bytes.Buffer
		if err := pem.Encode(&text, block); err != nil {
			return err
		}
		if err := os.WriteFile(w.Path(name), text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
