package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"

	"sallyport/control/exchange"
)

// exchangeFlags say where secrets are exchanged beyond the public internet.
type exchangeFlags struct {
	ExchangeCA      string         `name:"exchange-ca" placeholder:"FILE" type:"path" help:"PEM certificates to trust at token endpoints and sources, beside the system's."`
	ExchangeNetwork []netip.Prefix `placeholder:"PREFIX" help:"A private network where token endpoints and sources are, as 10.1.0.0/16; else they have public addresses. May be repeated."`
}

// client reaches the servers that secrets are exchanged with.
func (f *exchangeFlags) client() (*http.Client, error) {
	reach := exchange.Reach{Networks: f.ExchangeNetwork}
	if f.ExchangeCA != "" {
		text, err := os.ReadFile(f.ExchangeCA)
		if err != nil {
			return nil, fmt.Errorf("--exchange-ca: %w", err)
		}
		if reach.Roots, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("read the system's certificates: %w", err)
		}
		if !reach.Roots.AppendCertsFromPEM(text) {
			return nil, errors.New("--exchange-ca: the file has no PEM certificate")
		}
	}
	return exchange.NewClient(reach), nil
}
