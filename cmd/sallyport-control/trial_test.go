package main

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
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/control"
	"sallyport/control/agentapi"
	"sallyport/control/registry"
)

const trialSecret = "canary-Secret-0123456789"

// selfSigned is a certificate of localhost with its key, in PEM.
func selfSigned(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(60 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
}

// trialService is what credentials are tried at: it takes the right ones only, and
// echoes all that it gets.
func trialService(t *testing.T, pair []byte, clients *x509.CertPool) (host string) {
	t.Helper()
	certificate, err := tls.X509KeyPair(pair, pair)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		echo := r.URL.String() + fmt.Sprint(r.Header)
		w.Header().Set("X-Echo", echo)
		w.Header().Set("Location", "/?"+trialSecret)
		switch kind, _, _ := strings.Cut(r.URL.Path[1:], "/"); kind {
		case "redirect":
			w.WriteHeader(http.StatusFound)
		case "missing":
			w.WriteHeader(http.StatusNotFound)
		case "forbidden":
			w.WriteHeader(http.StatusForbidden)
		case "trouble":
			w.WriteHeader(http.StatusBadGateway)
		case "busy":
			w.WriteHeader(http.StatusTooManyRequests)
		case "cut":
			panic(http.ErrAbortHandler)
		default:
			if !rightly(kind, r) {
				w.WriteHeader(http.StatusUnauthorized)
			}
		}
		io.WriteString(w, echo)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	if clients != nil {
		server.TLS.ClientAuth, server.TLS.ClientCAs = tls.RequireAndVerifyClientCert, clients
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return "localhost:" + server.URL[strings.LastIndex(server.URL, ":")+1:]
}

// rightly reports whether a request bears trialSecret as its kind of credential does.
func rightly(kind string, r *http.Request) bool {
	user, password, _ := r.BasicAuth()
	cookie, err := r.Cookie("sid")
	mac := hmac.New(sha256.New, []byte(trialSecret))
	io.WriteString(mac, r.Method+" "+r.URL.Path)
	return map[string]bool{
		"bearer":            r.Header.Get("Authorization") == "Bearer "+trialSecret && r.Header.Get("X-Version") == "3",
		"basic":             user == "bob" && password == trialSecret,
		"query":             r.URL.RawQuery == "key="+trialSecret,
		"cookie":            err == nil && cookie.Value == trialSecret,
		"bot" + trialSecret: true,
		"hmac":              r.Header.Get("X-Signature") == hex.EncodeToString(mac.Sum(nil)),
		"sigv4":             strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIA0000/") && r.Header.Get("X-Amz-Date") != "",
		"client_cert":       len(r.TLS.VerifiedChains) == 1,
		"exchanged":         r.Header.Get("Authorization") == "Bearer acc3ss-t0ken-0123456789",
	}[kind]
}

// A credential of every kind is tried as a sidecar would use it, within its limits, and
// nothing of it comes out.
func TestTrial(t *testing.T) {
	pair, stranger := selfSigned(t), selfSigned(t)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pair, 0o600); err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(pair)
	host, untrusted, asking := trialService(t, pair, nil), trialService(t, stranger, nil), trialService(t, pair, clients)
	tokens := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/refused" {
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, `{"error": "invalid_client"}`)
			return
		}
		io.WriteString(w, `{"access_token": "acc3ss-t0ken-0123456789", "token_type": "bearer", "expires_in": 3600}`)
	}))
	certificate, err := tls.X509KeyPair(pair, pair)
	if err != nil {
		t.Fatal(err)
	}
	tokens.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	tokens.StartTLS()
	t.Cleanup(tokens.Close)
	tokenURL := strings.Replace(tokens.URL, "127.0.0.1", "localhost", 1)

	p := serve(t, laid(t), "--exchange-ca", authority, "--exchange-network", "127.0.0.0/8", "--exchange-network", "::1/128")
	var answers []string
	call := func(method, path, body string) (int, string) {
		status, answer := p.call(t, method, "/v1/teams/default"+path, body)
		answers = append(answers, answer)
		return status, answer
	}
	// In a vault of its own each, since they are for one host.
	store := func(name string, with map[string]any) {
		t.Helper()
		body := map[string]any{"name": name, "hosts": []string{host}, "secret": trialSecret}
		maps.Copy(body, with)
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		if status, body := call("POST", "/vaults", `{"name": "`+name+`"}`); status != 201 {
			t.Fatal(body)
		}
		if status, body := call("POST", "/vaults/"+name+"/credentials", string(text)); status != 201 {
			t.Fatalf("%s: %d %s", name, status, body)
		}
	}
	try := func(name, body string) (int, control.Trial) {
		t.Helper()
		var trial control.Trial
		status, answer := call("POST", "/vaults/"+name+"/credentials/"+name+"/test", body)
		if status == 200 {
			if err := json.Unmarshal([]byte(answer), &trial); err != nil {
				t.Fatal(err)
			}
		}
		return status, trial
	}

	oauth := func(path string) map[string]any {
		return map[string]any{"auth": "oauth_client", "secret": `{"client_secret": "` + trialSecret + `"}`, "settings": map[string]string{"token_url": tokenURL + path, "client_id": "c"}}
	}
	for kind, tc := range map[string]struct {
		with map[string]any
		path string
	}{
		"bearer":    {map[string]any{"inject": []string{"bearer", "default:X-Version: 3"}}, "/bearer"},
		"basic":     {map[string]any{"auth": "basic", "username": "bob"}, "/basic"},
		"query":     {map[string]any{"inject": []string{"query:key"}}, "/query"},
		"cookie":    {map[string]any{"inject": []string{"cookie:sid"}}, "/cookie"},
		"path":      {map[string]any{"inject": []string{"path:/bot{{token}}/{{path}}"}}, "/getMe"},
		"exchanged": {oauth("/token"), "/exchanged"},
		"hmac": {map[string]any{
			"auth": "hmac", "inject": []string{"header:X-Signature: {{signature:hex}}"}, "settings": map[string]string{"algorithm": "sha256", "string_to_sign": "{{method}} {{path}}"},
		}, "/hmac"},
		"sigv4":  {map[string]any{"auth": "sigv4", "inject": []string{"sigv4"}, "settings": map[string]string{"access_key_id": "AKIA0000", "region": "eu-west-1", "service": "s3"}}, "/sigv4"},
		"mutual": {map[string]any{"auth": "client_cert", "inject": []string{"client_cert"}, "secret": string(pair), "hosts": []string{asking}}, "/client_cert"},
	} {
		store(kind, tc.with)
		status, trial := try(kind, fmt.Sprintf(`{"path": %q}`, tc.path))
		if status != 200 || trial.Outcome != control.OutcomeAccepted || trial.Status != 200 || trial.Version != 1 || trial.Method != "GET" || trial.Path != tc.path || trial.Host != "localhost" {
			t.Errorf("%s: %d %+v", kind, status, trial)
		}
		if _, trial := try(kind, `{"path": "/wrong", "method": "POST"}`); kind != "path" && (trial.Outcome != control.OutcomeRefused || trial.Status != 401) {
			t.Errorf("%s where it is refused: %+v", kind, trial)
		}
	}

	for name, tc := range map[string]struct {
		with    map[string]any
		outcome control.Outcome
		status  int
		says    string
	}{
		"redirect":     {nil, control.OutcomeRedirected, 302, "not followed"},
		"missing":      {nil, control.OutcomeUnclear, 404, "says nothing"},
		"forbidden":    {nil, control.OutcomeRefused, 403, "refused"},
		"trouble":      {nil, control.OutcomeUnclear, 502, "in trouble"},
		"busy":         {nil, control.OutcomeUnclear, 429, "fewer"},
		"cut":          {nil, control.OutcomeUnreachable, 0, "can't be reached"},
		"untrusted":    {map[string]any{"hosts": []string{untrusted}}, control.OutcomeUnreachable, 0, "certificate that is not trusted"},
		"nobody":       {map[string]any{"hosts": []string{"localhost:1"}}, control.OutcomeUnreachable, 0, "refuses connections"},
		"unresolved":   {map[string]any{"hosts": []string{"nobody.invalid"}}, control.OutcomeUnreachable, 0, "does not resolve"},
		"no-exchange":  {oauth("/refused"), control.OutcomeNoMaterial, 0, "invalid_client"},
		"another-cert": {map[string]any{"auth": "client_cert", "inject": []string{"client_cert"}, "secret": string(stranger), "hosts": []string{asking}}, control.OutcomeRefused, 0, "shown the client certificate"},
	} {
		store(name, tc.with)
		status, trial := try(name, fmt.Sprintf(`{"path": "/%s"}`, name))
		if status != 200 || trial.Outcome != tc.outcome || trial.Status != tc.status || !strings.Contains(trial.Reason, tc.says) {
			t.Errorf("%s: %d %+v", name, status, trial)
		}
	}

	store("limited", map[string]any{
		"hosts": []string{"*.example.com", host}, "limits": map[string]any{"methods": []string{"GET", "POST"}, "paths": []string{"/forbidden"}, "budget": "1", "approve": "each"},
		"mints": []string{"refuse POST /forbidden/keys json:/key"},
	})
	for body, want := range map[string]int{
		`{"path": "/other"}`:                            422,
		`{"method": "HEAD"}`:                            422,
		`{"method": "DELETE"}`:                          422,
		`{"host": "other.example.org"}`:                 422,
		`{"host": "*.example.com"}`:                     422,
		`{"path": "/forbidden/../other"}`:               422,
		`{"path": "/forbidden?x=1"}`:                    422,
		`{"path": "https://other.example.org/"}`:        422,
		`{"method": "POST", "path": "/forbidden/keys"}`: 422,
	} {
		if status, trial := try("limited", body); status != want {
			t.Errorf("%s: %d %+v", body, status, trial)
		}
	}
	store("budget", map[string]any{"limits": map[string]any{"paths": []string{"/forbidden"}, "budget": "1", "approve": "each"}})
	if status, trial := try("budget", `{}`); status != 200 || trial.Path != "/forbidden" || trial.Status != 403 {
		t.Errorf("%d %+v", status, trial)
	}
	if status, _ := try("budget", `{}`); status != 409 {
		t.Errorf("past the budget: %d", status)
	}
	paced := false
	for range 100 {
		status, _ := try("budget", `{}`)
		if paced = status == 429; paced {
			break
		}
	}
	if !paced {
		t.Error("a credential is tried as often as one likes")
	}

	status, body := call("GET", "/audit?limit=1000", "")
	var page struct{ Items []control.Event }
	if err := json.Unmarshal([]byte(body), &page); err != nil || status != 200 {
		t.Fatal(status, err)
	}
	var told []string
	for _, e := range slices.Backward(page.Items) {
		if e.Kind == "credential.test" && e.Credential == "bearer/bearer" {
			told = append(told, fmt.Sprintf("%s %d %s %s %s v%d %d", e.Actor, e.Port, e.Method, e.Path, e.Reason, e.Version, e.Status))
			if e.Host != "localhost" {
				t.Errorf("%+v", e)
			}
		}
	}
	port := host[strings.Index(host, ":")+1:]
	if want := []string{
		"token:admin " + port + " GET /bearer intent v1 0", "token:admin " + port + " GET /bearer accepted v1 200",
		"token:admin " + port + " POST /wrong intent v1 0", "token:admin " + port + " POST /wrong refused v1 401",
	}; !slices.Equal(told, want) {
		t.Errorf("the events are %q", told)
	}
	all := strings.Join(answers, "\n") + p.stdout.String() + p.stderr.String()
	for _, canary := range []string{trialSecret, "acc3ss", "X-Echo"} {
		if strings.Contains(all, canary) {
			t.Errorf("%q comes out", canary)
		}
	}
}

// A control plane that was not told of a private network tries nothing there.
func TestTrialGoesToPublicAddresses(t *testing.T) {
	host := trialService(t, selfSigned(t), nil)
	p := serve(t, laid(t))
	for _, r := range [][2]string{
		{"/vaults", `{"name": "v"}`},
		{"/vaults/v/credentials", `{"name": "x", "hosts": ["` + host + `"], "secret": "` + trialSecret + `", "allow_http": true}`},
	} {
		if status, body := p.call(t, "POST", "/v1/teams/default"+r[0], r[1]); status != 201 {
			t.Fatal(status, body)
		}
	}
	if status, body := p.call(t, "POST", "/v1/teams/default/vaults/v/credentials/x/test", `{}`); status != 200 || !strings.Contains(body, `"unreachable"`) || !strings.Contains(body, "not a public one") {
		t.Errorf("%d %s", status, body)
	}
}

// What is sent by itself is within what the registry lets a credential do.
func TestChecksOfServices(t *testing.T) {
	services, err := registry.Load()
	if err != nil {
		t.Fatal(err)
	}
	sidecars := agentapi.New(agentapi.Config{Services: services, Metrics: newMetrics("test").agentapi})
	checked := 0
	for _, s := range services.Services() {
		if s.Check == "" {
			continue
		}
		checked++
		method, path, _ := strings.Cut(s.Check, " ")
		c := control.Credential{ID: "x", Name: "x", Vault: "v", Version: 1, Service: s.Name, Hosts: s.Hosts, Auth: s.Auth, Inject: s.Inject, Placeholders: []string{"vault:x"}}
		if _, err := usable(sidecars, c, control.Target{Host: s.Hosts[0], Port: 443, TLS: true, Method: method, Path: path}); err != nil || method != http.MethodGet {
			t.Errorf("%s: %s: %v", s.Name, s.Check, err)
		}
	}
	if checked == 0 {
		t.Error("no service has a check")
	}
}
