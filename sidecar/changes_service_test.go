package sidecar

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sallyport/sidecar/mint"
)

// kind is a way to use a credential that is changed under requests.
type kind struct {
	name   string
	body   map[string]any         // of the credential, beside name, hosts and secret
	secret func(value int) string // the secret of a value
	// bears gives the value that a request bears, 0 for none. latest is the newest.
	bears func(r *http.Request, latest int) int
}

var number = regexp.MustCompile(`n0*([1-9][0-9]*)n`)

// numbered gives the value that a text names.
func numbered(text string) int {
	found := number.FindStringSubmatch(text)
	if found == nil {
		return 0
	}
	n, _ := strconv.Atoi(found[1]) // the pattern's
	return n
}

func bearer(r *http.Request, _ int) int { return numbered(r.Header.Get("Authorization")) }

func token(value int) string { return fmt.Sprintf("canary-n%06dn-0123456789abcdef", value) }

// kinds are those of a test whose exchanges are at tokenURL.
func kinds(t *testing.T, tokenURL string) []kind {
	plain := func(name string, body map[string]any) kind { return kind{name, body, token, bearer} }
	signed := func(r *http.Request, latest int) int {
		for value := latest; value > 0; value-- {
			mac := hmac.New(sha256.New, []byte(token(value)))
			mac.Write([]byte(r.Method + r.URL.Path))
			if hex.EncodeToString(mac.Sum(nil)) == r.Header.Get("X-Signature") {
				return value
			}
		}
		return 0
	}
	var mu sync.Mutex
	pairs := map[int]string{}
	certificate := func(value int) string {
		mu.Lock()
		defer mu.Unlock()
		if pairs[value] == "" {
			pairs[value] = numberedPair(t, value)
		}
		return pairs[value]
	}
	shown := func(r *http.Request, _ int) int {
		if len(r.TLS.PeerCertificates) == 0 {
			return 0
		}
		return numbered(r.TLS.PeerCertificates[0].Subject.CommonName)
	}
	exchanged := func(auth string) map[string]any {
		return map[string]any{"auth": auth, "settings": map[string]any{"token_url": tokenURL, "client_id": "billing", "client_auth": "post"}}
	}
	return []kind{
		plain("bearer", nil),
		plain("socket", map[string]any{"allow_websocket": true}),
		plain("minted", map[string]any{"mints": []string{"capture POST /mint json:/key ttl=/expires_in"}}),
		plain("slow", nil),
		plain("counted", map[string]any{"limits": map[string]any{"rate": "100000/min", "budget": "100000"}}),
		plain("first", map[string]any{"limits": map[string]any{"approve": "first"}}),
		plain("each", map[string]any{"limits": map[string]any{"approve": "each"}}),
		{"basic", map[string]any{"auth": "basic", "username": "bob"}, token, func(r *http.Request, _ int) int {
			_, password, _ := r.BasicAuth()
			return numbered(password)
		}},
		{"hmac", map[string]any{
			"auth": "hmac", "settings": map[string]any{"algorithm": "sha256", "string_to_sign": "{{method}}{{path}}"}, "inject": []string{"header:X-Signature: {{signature:hex}}"},
		}, token, signed},
		{"sigv4", map[string]any{"auth": "sigv4", "settings": map[string]any{"region": "eu-west-1", "service": "sqs"}}, func(value int) string {
			return fmt.Sprintf(`{"AccessKeyId": "AKIAn%06dn", "SecretAccessKey": %q}`, value, token(value))
		}, bearer},
		{"client", exchanged("oauth_client"), token, bearer},
		{"refresh", exchanged("oauth_refresh"), func(value int) string {
			return fmt.Sprintf(`{"refresh_token": "refresh-n%06dn-0", "client_secret": %q}`, value, token(value))
		}, bearer},
		{"certificate", map[string]any{"auth": "client_cert"}, certificate, shown},
	}
}

// numberedPair is a client certificate that names a value, and its key.
func numberedPair(t *testing.T, value int) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Error(err)
		return ""
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(value)), Subject: pkix.Name{CommonName: token(value)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Error(err)
		return ""
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Error(err)
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// newTokens is an authorization server. An access token names the value of the secret
// that it was given for; a refresh token is good once.
func newTokens(t *testing.T) (tokenURL string) {
	var mu sync.Mutex
	used := map[string]bool{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		secret, refresh := r.PostFormValue("client_secret"), r.PostFormValue("refresh_token")
		value := numbered(secret)
		if value == 0 || refresh != "" && (numbered(refresh) != value || used[refresh]) {
			t.Errorf("the authorization server was shown %q, used %v", refresh, used[refresh])
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error": "invalid_grant"}`)
			return
		}
		next := ""
		if refresh != "" {
			used[refresh] = true
			begin, times, _ := strings.Cut(refresh, "n-")
			n, _ := strconv.Atoi(times)
			next = fmt.Sprintf(`, "refresh_token": "%sn-%d"`, begin, n+1)
		}
		fmt.Fprintf(w, `{"access_token": "access-n%06dn-%s", "token_type": "bearer", "expires_in": 40%s}`, value, rand.Text(), next)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/token"
}

// newService is the service of all kinds, each at a host of its own: it answers with
// the value that a request bears.
func newService(t *testing.T, lanes map[string]*lane) (address string, trust []byte) {
	authority, err := mint.New()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l := lanes[r.Host]
		if l == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		value := l.bears(r, l.latest())
		w.Header().Set("Value", strconv.Itoa(value))
		switch {
		case r.URL.Path == "/mint":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"key": "minted-n%06dn-%s", "expires_in": 30}`, value, rand.Text())
		case r.Header.Get("Upgrade") != "":
			if c, err := websocket.Accept(w, r, nil); err == nil {
				c.Close(websocket.StatusNormalClosure, "")
			}
		case !l.takes(value):
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	server.TLS = &tls.Config{NextProtos: []string{"h2", "http/1.1"}, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		config := &tls.Config{NextProtos: []string{"h2", "http/1.1"}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return authority.Leaf(hello.Context(), hello.ServerName)
		}}
		if strings.HasPrefix(hello.ServerName, "certificate.") {
			config.ClientAuth = tls.RequestClientCert
		}
		return config, nil
	}}
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), authority.CertificatePEM()
}
