package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"time"
)

// authority signs the certificates of origins.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(name string) (*authority, error) {
	a := new(authority)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	made, err := a.sign(template)
	if err != nil {
		return nil, err
	}
	a.key = made.PrivateKey.(*ecdsa.PrivateKey)
	a.certificate, err = x509.ParseCertificate(made.Certificate[0])
	return a, err
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// write keeps the certificate and key in a file.
func (a *authority) write(file string) error {
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(a.pem(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...), 0o600)
}

func readAuthority(file string) (*authority, error) {
	pair, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: want an ECDSA key", file)
	}
	return &authority{pair.Leaf, key}, nil
}

func readRoots(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in PEM", file)
	}
	return roots, nil
}

// issue makes a server's certificate for names, as change would have it.
func (a *authority) issue(names []string, change func(*x509.Certificate)) (*tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	return a.sign(template)
}

// sign makes a certificate with a new key, which signs it where there is no authority yet.
func (a *authority) sign(template *x509.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// faults are what can be wrong with an origin's proof of its name.
var faults = []string{
	"expired", "not-yet-valid", "another-name", "name-in-subject-only", "address-instead-of-name", "wildcard-too-high", "wildcard-too-low",
	"self-signed", "unknown-authority", "authority-by-name-only", "for-clients-only", "tls-1.0", "tls-1.1", "plain-http", "closes", "garbage",
}

// silent are those of them that show no certificate.
var silent = []string{"tls-1.0", "tls-1.1", "plain-http", "closes", "garbage"}

// faulty gives the certificate of an origin with a fault, if the fault is in that.
func (a *authority) faulty(fault, host string) (*tls.Certificate, error) {
	change := func(names []string, f func(*x509.Certificate)) (*tls.Certificate, error) { return a.issue(names, f) }
	switch fault {
	case "expired":
		return change([]string{host}, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		})
	case "not-yet-valid":
		return change([]string{host}, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })
	case "another-name":
		return a.issue([]string{elsewhere}, nil)
	case "name-in-subject-only":
		return change([]string{host}, func(c *x509.Certificate) { c.DNSNames = nil })
	case "address-instead-of-name":
		return change([]string{host}, func(c *x509.Certificate) { c.DNSNames, c.EmailAddresses = nil, []string{"root@" + host} })
	case "wildcard-too-high":
		return a.issue([]string{"*.test"}, nil)
	case "wildcard-too-low":
		return a.issue([]string{"*." + host}, nil)
	case "self-signed":
		return new(authority).issue([]string{host}, nil)
	case "unknown-authority", "authority-by-name-only":
		name := "somebody"
		if fault == "authority-by-name-only" {
			name = a.certificate.Subject.CommonName
		}
		other, err := newAuthority(name)
		if err != nil {
			return nil, err
		}
		return other.issue([]string{host}, nil)
	case "for-clients-only":
		return change([]string{host}, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	}
	return a.issue([]string{host}, nil)
}
