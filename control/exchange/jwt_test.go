package exchange_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"

	"sallyport/control"
	"sallyport/control/exchange"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// keyFile is a private key as PEM.
func keyFile(key any) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))}))
}

// reaching is an Exchanger that reaches a server of httptest.
func reaching(t *testing.T, server *httptest.Server) *exchange.Exchanger {
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	x := exchange.New(exchange.NewClient(exchange.Reach{Roots: roots, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}), log)
	t.Cleanup(x.Close)
	return x
}

// known is Zitadel's example storage, which knows one more key.
type known struct {
	*storage.Storage
	key crypto.PublicKey
}

func (k known) GetKeyByIDAndClientID(_ context.Context, keyID, client string) (*jose.JSONWebKey, error) {
	if keyID != "k1" || client != storage.ServiceUserID {
		return nil, fmt.Errorf("no key %s of %s", keyID, client)
	}
	return &jose.JSONWebKey{KeyID: keyID, Use: "sig", Key: k.key}, nil
}

// Zitadel's OpenID provider gives access tokens for what is signed and for client
// secrets, and for nothing else.
func TestZitadelGivesTokens(t *testing.T) {
	key := must(rsa.GenerateKey(rand.Reader, 2048))
	web := httptest.NewUnstartedServer(nil)
	web.StartTLS()
	defer web.Close()
	web.Config.Handler = exampleop.SetupServer(web.URL, known{storage.NewStorage(storage.NewUserStore(web.URL)), key.Public()}, nil, false, op.WithLogger(log))
	x := reaching(t, web)
	endpoint := web.URL + "/oauth/token"
	for _, tc := range []struct {
		name     string
		auth     control.Auth
		settings control.Settings
		secret   string
		want     string // of the error; empty: none
	}{
		{"a client by basic", control.AuthOAuthClient, control.Settings{"token_url": endpoint, "client_id": "sid1"}, "verysecret", ""},
		{"a client by post", control.AuthOAuthClient, control.Settings{"token_url": endpoint, "client_id": "sid1", "client_auth": "post"}, "verysecret", ""},
		{"another secret", control.AuthOAuthClient, control.Settings{"token_url": endpoint, "client_id": "sid1"}, "canary-s3cret", "answers 401, invalid_client"},
		{"a signature", control.AuthJWTBearer, control.Settings{"token_url": endpoint, "issuer": storage.ServiceUserID, "audience": web.URL, "key_id": "k1", "scope": "openid"}, keyFile(key), ""},
		{"a signature of another key", control.AuthJWTBearer, control.Settings{"token_url": endpoint, "issuer": storage.ServiceUserID, "audience": web.URL, "key_id": "k1", "scope": "openid"}, keyFile(must(rsa.GenerateKey(rand.Reader, 2048))), "answers 4"},
		{"for another audience", control.AuthJWTBearer, control.Settings{"token_url": endpoint, "issuer": storage.ServiceUserID, "audience": "https://example.com", "key_id": "k1", "scope": "openid"}, keyFile(key), "answers 4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := control.Credential{ID: tc.name, Auth: tc.auth, Version: 1, Settings: tc.settings}
			if err := x.Check(c); err != nil {
				t.Fatal(err)
			}
			if err := x.CheckSecret(c, control.Secret(tc.secret)); err != nil {
				t.Fatal(err)
			}
			m, expiry, err := x.Material(t.Context(), c, secret(tc.secret))
			if tc.want != "" {
				if control.CodeOf(err) != control.CodeExchange || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "canary") {
					t.Errorf("error %v, want one that says %q", err, tc.want)
				}
				return
			}
			if err != nil || len(m.Token) < 16 || !expiry.After(time.Now()) {
				t.Errorf("%d bytes until %v: %v", len(m.Token), expiry, err)
			}
		})
	}
}

// fakeGoogle and fakeGitHub stand in for servers that nobody can run; they check
// signatures as those do.
func fakeGoogle(key crypto.PublicKey, url func() string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		claims := struct {
			jwt.RegisteredClaims
			Scope string `json:"scope"`
		}{}
		token, err := jwt.ParseWithClaims(r.FormValue("assertion"), &claims, func(*jwt.Token) (any, error) { return key, nil },
			jwt.WithValidMethods([]string{"RS256"}), jwt.WithAudience(url()), jwt.WithIssuer("bot@p.iam.gserviceaccount.com"), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
		w.Header().Set("Content-Type", "application/json")
		if err != nil || token.Header["kid"] != "kid1" || r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error": "invalid_grant", "error_description": "canary"}`)
			return
		}
		fmt.Fprintf(w, `{"access_token": "ya29.%s.%s", "expires_in": 3599, "token_type": "Bearer"}`, claims.Scope, claims.Subject)
	}
}

func TestGoogleServiceAccount(t *testing.T) {
	key := must(rsa.GenerateKey(rand.Reader, 2048))
	web := httptest.NewUnstartedServer(nil)
	web.StartTLS()
	defer web.Close()
	web.Config.Handler = fakeGoogle(key.Public(), func() string { return web.URL + "/token" })
	x := reaching(t, web)
	file := func(key any, uri string) string {
		return string(must(json.MarshalIndent(map[string]string{
			"type": "service_account", "client_email": "bot@p.iam.gserviceaccount.com", "private_key_id": "kid1", "private_key": keyFile(key), "token_uri": uri,
		}, "", "  ")))
	}
	c := control.Credential{ID: "g", Auth: control.AuthGoogle, Version: 1, Settings: control.Settings{"scope": "a/drive", "subject": "bob@example.com"}}
	if err := x.CheckSecret(c, control.Secret(file(key, web.URL+"/token"))); err != nil {
		t.Fatal(err)
	}
	m, expiry, err := x.Material(t.Context(), c, secret(file(key, web.URL+"/token")))
	if err != nil || string(m.Token) != "ya29.a/drive.bob@example.com" || expiry.Before(time.Now().Add(50*time.Minute)) {
		t.Errorf("it gave %q until %v: %v", string(m.Token), expiry, err)
	}
	c.ID = "other"
	if _, _, err := x.Material(t.Context(), c, secret(file(must(rsa.GenerateKey(rand.Reader, 2048)), web.URL+"/token"))); control.CodeOf(err) != control.CodeExchange || !strings.Contains(err.Error(), "invalid_grant") {
		t.Errorf("another key: %v", err)
	}
	for name, text := range map[string]string{
		"no JSON": "canary", "another kind of file": `{"type": "authorized_user", "client_email": "canary"}`,
		"plain HTTP": file(key, "http://oauth2.example.com"), "no key": strings.Replace(file(key, web.URL), "BEGIN PRIVATE", "BEGIN canary", 1),
		"a kind of key that it is not": file(must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)), web.URL),
	} {
		if err := x.CheckSecret(c, control.Secret(text)); control.CodeOf(err) != control.CodeInvalid || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func fakeGitHub(key crypto.PublicKey) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		claims := jwt.RegisteredClaims{}
		_, err := jwt.ParseWithClaims(text, &claims, func(*jwt.Token) (any, error) { return key, nil },
			jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer("1234"), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
		if err != nil || time.Until(claims.ExpiresAt.Time) > 10*time.Minute {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"message": "canary"}`)
			return
		}
		var body struct {
			Repositories []string
			Permissions  map[string]string
		}
		if r.Method != http.MethodPost || r.URL.Path != "/api/v3/app/installations/99/access_tokens" || json.NewDecoder(r.Body).Decode(&body) != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"token": "ghs_%s_%s", "expires_at": %q}`, strings.Join(body.Repositories, "_"), body.Permissions["contents"], time.Now().Add(time.Hour).Format(time.RFC3339))
	}
}

func TestGitHubApp(t *testing.T) {
	key := must(rsa.GenerateKey(rand.Reader, 2048))
	web := httptest.NewTLSServer(fakeGitHub(key.Public()))
	defer web.Close()
	x := reaching(t, web)
	c := control.Credential{ID: "h", Auth: control.AuthGitHubApp, Version: 1, Settings: control.Settings{
		"app_id": "1234", "installation_id": "99", "api_url": web.URL + "/api/v3", "repositories": "app,docs", "permissions": "contents=read,issues=write",
	}}
	if err := x.Check(c); err != nil {
		t.Fatal(err)
	}
	m, expiry, err := x.Material(t.Context(), c, secret(keyFile(key)))
	if err != nil || string(m.Token) != "ghs_app_docs_read" || expiry.Before(time.Now().Add(50*time.Minute)) {
		t.Errorf("it gave %q until %v: %v", string(m.Token), expiry, err)
	}
	c.ID = "other"
	if _, _, err := x.Material(t.Context(), c, secret(keyFile(must(rsa.GenerateKey(rand.Reader, 2048))))); control.CodeOf(err) != control.CodeExchange || !strings.Contains(err.Error(), "answers 401") || strings.Contains(err.Error(), "canary") {
		t.Errorf("another key: %v", err)
	}
	for name, value := range map[string]string{"installation_id": "99/../98", "repositories": "app,octo/docs", "permissions": "contents", "app_id": "1 2", "api_url": "http://github.example.com"} {
		bad := c
		bad.Settings = control.Settings{"app_id": "1234", "installation_id": "99", name: value}
		if err := x.Check(bad); control.CodeOf(err) != control.CodeInvalid || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

// Every kind of key that is taken signs so that others can verify it.
func TestPrivateKeyJWT(t *testing.T) {
	for name, key := range map[string]crypto.Signer{
		"RSA": must(rsa.GenerateKey(rand.Reader, 2048)), "P-256": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"P-384": must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), "Ed25519": must2(ed25519.GenerateKey(rand.Reader)),
	} {
		t.Run(name, func(t *testing.T) {
			var endpoint string
			web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, err := jwt.Parse(r.FormValue("client_assertion"), func(*jwt.Token) (any, error) { return key.Public(), nil },
					jwt.WithAudience(endpoint), jwt.WithIssuer("c"), jwt.WithSubject("c"), jwt.WithExpirationRequired())
				if err != nil || r.FormValue("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" || r.FormValue("client_secret") != "" {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				fmt.Fprint(w, `{"access_token": "signed-access-token", "expires_in": 60, "token_type": "bearer"}`)
			}))
			defer web.Close()
			endpoint = web.URL + "/token"
			c := control.Credential{ID: name, Auth: control.AuthOAuthClient, Version: 1, Settings: control.Settings{"token_url": endpoint, "client_id": "c", "client_auth": "private_key_jwt"}}
			m, _, err := reaching(t, web).Material(t.Context(), c, secret(keyFile(key)))
			if err != nil || string(m.Token) != "signed-access-token" {
				t.Errorf("it gave %q: %v", string(m.Token), err)
			}
		})
	}
}

func must2(_ ed25519.PublicKey, key ed25519.PrivateKey, err error) ed25519.PrivateKey {
	return must(key, err)
}
