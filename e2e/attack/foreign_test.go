package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/elazarl/goproxy"
)

// naive is elazarl/goproxy with a few lines that put a header into requests: what one
// writes first. It goes by the Host that the client sends, and looks at no answer.
func naive(secret string, o options, trusted *x509.CertPool, signer *tls.Certificate) http.Handler {
	proxy := goproxy.NewProxyHttpServer()
	proxy.Logger = log.New(io.Discard, "", 0)
	proxy.Tr = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, DisableCompression: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			to := o.elsewhere
			if strings.HasSuffix(host, ".bound.test") {
				to = o.bound
			}
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(to, port))
		},
	}
	action := &goproxy.ConnectAction{Action: goproxy.ConnectMitm, TLSConfig: goproxy.TLSConfigFromCA(signer)}
	proxy.OnRequest().HandleConnect(goproxy.FuncHttpsHandler(func(host string, _ *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) { return action, host }))
	proxy.OnRequest().DoFunc(func(r *http.Request, _ *goproxy.ProxyCtx) (*http.Request, *http.Response) {
		if strings.HasPrefix(r.Host, boundHost) {
			r.Header.Set("Authorization", "Bearer "+secret)
		}
		return r, nil
	})
	return proxy
}

// The corpora can break: a proxy that injects naively does not hold, although it does
// what it should where nobody attacks it.
func TestNaiveProxyIsBroken(t *testing.T) {
	const secret = "naive-4eC39HqLyjWDarjtT1zdp7dc"
	dir := t.TempDir()
	o, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := keptAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(authority.certificate)
	signers := filepath.Join(dir, "signer")
	if err := os.Mkdir(signers, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := keptAuthority(signers); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(signers, "ca.pem")
	signer, err := tls.LoadX509KeyPair(ca, ca)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(naive(secret, o, trusted, &signer))
	defer server.Close()
	args := []string{"-target", server.URL, "-secret", secret, "-target-ca", ca, "-authority", dir, "-origin", o.bound, "-elsewhere", o.elsewhere}
	for _, test := range []struct {
		corpus, pattern string
		broken          bool
	}{
		{"steer", "^control/1.3/.*/h1$", false},
		{"steer", "^fronting/from-elsewhere/(itself|as-prefix)/first/connect/h1$", true},
		{"steer", "^fronting/from-bound/another/first/connect/h1$", true},
		{"steer", "^ports/plain-at-80/api.bound.test/connect$", true},
		{"steer", "^redirect/302/plain-http/connect/h1$", true},
		{"steer", "^proof/expired/connect/h1$", false},
		{"reflect", "^text/raw/h1/", true},
		{"reflect", "^x-echo/base64-std-0/h1/", true},
		{"reflect", "^json/hex-lower/gzip/h1", true},
		{"reflect", "^trailer/raw/h1/", true},
	} {
		var out bytes.Buffer
		err := run(append(args, "-corpora", test.corpus, "-run", test.pattern), &out)
		if counted := regexp.MustCompile(`[1-9]\d* +\d+ +\d+ *\n`).MatchString(out.String()); !counted || (err != nil) != test.broken {
			t.Errorf("%s %s: %v\n%s", test.corpus, test.pattern, err, &out)
		}
	}
}
