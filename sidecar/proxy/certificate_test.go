package proxy_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/sidecar/proxy"
)

// clientCertificate is one that signs itself.
func clientCertificate(t *testing.T, name string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// shownWorld has an upstream that says whom it sees and whether it is for the first
// time on that connection, and requests that say which credential is theirs.
func shownWorld(t *testing.T, protocol string, version uint16, certificates map[string]*tls.Certificate) *world {
	seen := make(map[string]bool)
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		name := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			name = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		fmt.Fprintf(rw, "%s %v %v", name, seen[r.RemoteAddr], r.TLS.DidResume)
		seen[r.RemoteAddr] = true
	}, func(c *proxy.Config) {
		facts := c.Facts
		c.Facts = func(conn net.Conn) proxy.Facts {
			f := facts(conn)
			f.HTTP2 = protocol == "HTTP/2"
			return f
		}
		c.Plan = func(_ context.Context, _ *proxy.Exchange, r *http.Request) (*proxy.Plan, error) {
			plan := &proxy.Plan{Decision: proxy.Inspect}
			if credential := r.Header.Get("Credential"); credential != "" {
				name, number, _ := strings.Cut(credential, ".")
				plan.Decision, plan.Credential = proxy.Inject, name
				if _, err := fmt.Sscan(number, &plan.Version); err != nil {
					return nil, err
				}
				plan.Certificate = certificates[credential]
			}
			return plan, nil
		}
	})
	w.upstream.TLS.ClientAuth, w.upstream.TLS.MaxVersion = tls.RequestClientCert, version
	return w
}

func askAs(t *testing.T, w *world, protocol, credential string) string {
	t.Helper()
	var response *http.Response
	if protocol == "HTTP/1.1" {
		response = w.raw(t, strings.Replace(plainGet, "\r\n\r\n", "\r\nCredential: "+credential+"\r\n\r\n", 1))[0]
	} else {
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		defer transport.CloseIdleConnections()
		request, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+w.address, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "example.com"
		request.Header.Set("Credential", credential)
		if response, err = transport.RoundTrip(request); err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A client certificate is shown on the connections of its own credential and
// version, which no other request gets, and none of those that did not show it.
func TestClientCertificateIsShown(t *testing.T) {
	certificates := map[string]*tls.Certificate{
		"a.1": clientCertificate(t, "a1"), "a.2": clientCertificate(t, "a2"), "b.1": clientCertificate(t, "b1"),
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run(tls.VersionName(version)+" "+protocol, func(t *testing.T) {
				w := shownWorld(t, protocol, version, certificates)
				for _, step := range []struct{ credential, want string }{
					{"", "nobody false false"}, {"a.1", "a1 false false"}, {"a.1", "a1 true false"}, {"", "nobody true false"},
					{"b.1", "b1 false false"}, {"c.1", "nobody false false"}, {"a.2", "a2 false false"}, {"a.1", "a1 true false"},
				} {
					if got := askAs(t, w, protocol, step.credential); got != step.want {
						t.Errorf("as %q: the upstream sees %q, want %q", step.credential, got, step.want)
					}
				}
				w.Keep(map[string]uint64{"a": 2, "b": 1})
				for _, step := range []struct{ credential, want string }{
					{"a.2", "a2 true false"}, {"b.1", "b1 true false"},
				} {
					if got := askAs(t, w, protocol, step.credential); got != step.want {
						t.Errorf("after the rotation, as %q: the upstream sees %q, want %q", step.credential, got, step.want)
					}
				}
				if got := askAs(t, w, protocol, "a.1"); !strings.Contains(got, "credential_changing") {
					t.Errorf("after the rotation, as \"a.1\": %s", got)
				}
			})
		}
	}
}

// An upstream that takes other certificates is named, and not said to lack one.
func TestClientCertificateIsRefused(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run(tls.VersionName(version)+" "+protocol, func(t *testing.T) {
				w := shownWorld(t, protocol, version, map[string]*tls.Certificate{"a.1": clientCertificate(t, "a1")})
				w.upstream.TLS.ClientAuth, w.upstream.TLS.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
				if got := askAs(t, w, protocol, "a.1"); !strings.Contains(got, "does not accept the client certificate") {
					t.Error(got)
				}
			})
		}
	}
}
