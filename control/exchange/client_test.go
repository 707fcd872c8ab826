package exchange_test

import (
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport/control"
	"sallyport/control/exchange"
)

// Where an exchange goes is chosen by who stores a credential, who must reach nothing
// by it that only the control plane reaches.
func TestExchangeReachesOnlyWhatIsMeant(t *testing.T) {
	var arrived atomic.Int64
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived.Add(1) })
	inside := httptest.NewTLSServer(handler)
	defer inside.Close()
	plain := httptest.NewServer(handler)
	defer plain.Close()
	port := func(url string) string { return url[strings.LastIndexByte(url, ':'):] }
	roots := x509.NewCertPool()
	roots.AddCert(inside.Certificate())
	everywhere := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	for _, tc := range []struct {
		name, url string
		reach     exchange.Reach
		want      string
	}{
		{"loopback", inside.URL, exchange.Reach{Roots: roots}, "not a public one"},
		{"a name of loopback", "https://localhost" + port(inside.URL), exchange.Reach{Roots: roots}, "not a public one"},
		{"loopback written otherwise", "https://[::ffff:127.0.0.1]" + port(inside.URL), exchange.Reach{Roots: roots}, "not a public one"},
		{"loopback as a number", "https://2130706433" + port(inside.URL), exchange.Reach{Roots: roots}, ""},
		{"a private network", "https://10.0.0.1", exchange.Reach{}, "not a public one"},
		{"metadata", "https://169.254.169.254", exchange.Reach{}, "not a public one"},
		{"metadata, with every network allowed", "https://169.254.169.254", exchange.Reach{Networks: everywhere}, "not a public one"},
		{"another network is meant", inside.URL, exchange.Reach{Roots: roots, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, "not a public one"},
		{"an authority that nobody trusts", inside.URL, exchange.Reach{Networks: everywhere}, "not trusted"},
		{"plain HTTP", plain.URL, exchange.Reach{Networks: everywhere}, "without TLS"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := exchange.New(exchange.NewClient(tc.reach), log)
			defer x.Close()
			c := control.Credential{ID: tc.name, Auth: control.AuthOAuthClient, Version: 1, Settings: control.Settings{"token_url": tc.url, "client_id": "c"}}
			_, _, err := x.Material(t.Context(), c, secret("canary-s3cret"))
			if control.CodeOf(err) != control.CodeExchange {
				t.Fatalf("error %v", err)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one that says %q", err, tc.want)
			}
		})
	}
	if n := arrived.Load(); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
	if _, err := net.Dial("tcp", inside.Listener.Addr().String()); err != nil {
		t.Error("nothing could have arrived")
	}
}

// What can't be a token endpoint is refused when it is stored.
func TestSettingsOfClientCredentials(t *testing.T) {
	x := local(t)
	for name, tc := range map[string]struct {
		settings control.Settings
		want     string
	}{
		"no endpoint":      {control.Settings{"client_id": "c"}, "needs the setting token_url; it takes token_url (needed), client_id (needed), client_auth"},
		"plain HTTP":       {control.Settings{"client_id": "c", "token_url": "http://a.example.com"}, "begins with https://"},
		"a user":           {control.Settings{"client_id": "c", "token_url": "https://a:b@a.example.com"}, "without a user"},
		"no URL":           {control.Settings{"client_id": "c", "token_url": "a.example.com"}, "begins with https://"},
		"an unknown one":   {control.Settings{"client_id": "c", "token_url": "https://a.example.com", "secret": "canary"}, `has no setting "secret"`},
		"an unknown way":   {control.Settings{"client_id": "c", "token_url": "https://a.example.com", "client_auth": "digest"}, "one of basic, post"},
		"an empty one":     {control.Settings{"client_id": "", "token_url": "https://a.example.com"}, "is empty"},
		"a line break":     {control.Settings{"client_id": "c\r\n", "token_url": "https://a.example.com"}, "control character"},
		"one that is long": {control.Settings{"client_id": strings.Repeat("c", 5000), "token_url": "https://a.example.com"}, "longer than 4096"},
	} {
		t.Run(name, func(t *testing.T) {
			err := x.Check(control.Credential{Auth: control.AuthOAuthClient, Settings: tc.settings})
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("error %v, want one that says %q", err, tc.want)
			}
		})
	}
}
