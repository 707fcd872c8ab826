package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"sallyport/control/exchange"
)

// exchangeFlags say where secrets are exchanged beyond the public internet.
type exchangeFlags struct {
	ExchangeCA      string         `name:"exchange-ca" placeholder:"FILE" type:"path" help:"PEM certificates to trust at token endpoints and sources, beside the system's."`
	ExchangeNetwork []netip.Prefix `placeholder:"PREFIX" help:"A private network where token endpoints and sources are, as 10.1.0.0/16; else they have public addresses. May be repeated."`
}

// reach says which servers secrets are exchanged with, and credentials tried at.
func (f *exchangeFlags) reach() (exchange.Reach, error) {
	reach := exchange.Reach{Networks: f.ExchangeNetwork}
	if f.ExchangeCA != "" {
		text, err := os.ReadFile(f.ExchangeCA)
		if err != nil {
			return reach, fmt.Errorf("--exchange-ca: %w", err)
		}
		if reach.Roots, err = x509.SystemCertPool(); err != nil {
			return reach, fmt.Errorf("read the system's certificates: %w", err)
		}
		if !reach.Roots.AppendCertsFromPEM(text) {
			return reach, errors.New("--exchange-ca: the file has no PEM certificate")
		}
	}
	return reach, nil
}
