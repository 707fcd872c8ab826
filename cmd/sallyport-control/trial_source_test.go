package main

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/control"
	"sallyport/control/external/externaltest"
)

// A credential whose secret lies in a source is tried as any other, with what lies there
// now, and once for an idempotency key. It is rotated there alone, and is due by that.
func TestTrialOfSecretInASource(t *testing.T) {
	const opening, wrong = "hvs.canary-0123456789", "another-Secret-0123456789"
	pair := selfSigned(t)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pair, 0o600); err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(pair, pair)
	if err != nil {
		t.Fatal(err)
	}
	lying := externaltest.NewFakeVault()
	lying.Allow(opening, "kv/data/")
	lying.Put("kv/x", map[string]any{"key": wrong})
	server := httptest.NewUnstartedServer(lying)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	t.Cleanup(server.Close)
	host := trialService(t, pair, nil)
	p := serve(t, laid(t), "--exchange-ca", authority, "--exchange-network", "127.0.0.0/8", "--exchange-network", "::1/128")
	call := func(method, path, body string, want int, into any) string {
		t.Helper()
		status, answer := p.call(t, method, "/v1/teams/default/vaults"+path, body)
		if status != want {
			t.Fatalf("%s %s: %d %s", method, path, status, answer)
		}
		if into != nil {
			if err := json.Unmarshal([]byte(answer), into); err != nil {
				t.Fatal(err)
			}
		}
		return answer
	}
	call("POST", "", `{"name": "v"}`, 201, nil)
	call("POST", "/v/sources", `{"name": "team", "kind": "vault", "settings": {"address": "`+strings.Replace(server.URL, "127.0.0.1", "localhost", 1)+`"}, "secret": "`+opening+`"}`, 201, nil)
	call("POST", "/v/credentials", `{"name": "x", "hosts": ["`+host+`"], "inject": ["bearer", "default:X-Version: 3"], "from": "team:kv/data/x#key"}`, 201, nil)

	// It was changed since, which the trial finds: nothing is sent with the version before.
	lying.Put("kv/x", map[string]any{"key": trialSecret})
	token, err := os.ReadFile(filepath.Join(p.dir, "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	var answers [2]string
	for i := range answers {
		r, err := http.NewRequestWithContext(t.Context(), "POST", p.admin+"/v1/teams/default/vaults/v/credentials/x/test", strings.NewReader(`{"path": "/bearer"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", "one-trial")
		var status int
		if status, answers[i] = do(t, http.DefaultClient, r); status != 200 {
			t.Fatalf("%d %s", status, answers[i])
		}
	}
	var trial control.Trial
	if err := json.Unmarshal([]byte(answers[0]), &trial); err != nil || trial.Outcome != control.OutcomeAccepted || trial.Version != 2 || answers[1] != answers[0] {
		t.Errorf("the trials say %q, %v", answers, err)
	}
	var page struct{ Items []control.Event }
	_, text := p.call(t, "GET", "/v1/teams/default/audit?limit=100", "")
	if err := json.Unmarshal([]byte(text), &page); err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, e := range page.Items {
		if e.Kind == "credential.test" || e.Kind == "credential.refresh" {
			told = append(told, e.Kind+" "+e.Reason)
		}
	}
	if got := strings.Join(told, ", "); got != "credential.test accepted, credential.test intent, credential.refresh " {
		t.Errorf("the events, newest first, are %s", got)
	}

	// Rotated it is there alone, with an overlap or without.
	for _, overlap := range []string{"", "10m"} {
		if said := call("POST", "/v/credentials/x/rotate", `{"secret": "`+wrong+`", "overlap": "`+overlap+`"}`, 409, nil); !strings.Contains(said, "credential refresh") {
			t.Errorf("rotated here: %s", said)
		}
	}
	call("DELETE", "/v/credentials/x/overlap", "", 404, nil)

	// What is the same secret is no rotation, so it is due as before.
	var before, same, changed control.Credential
	call("PATCH", "/v/credentials/x", `{"rotate_every": "90d"}`, 200, &before)
	call("POST", "/v/credentials/x/refresh", "", 200, nil)
	call("GET", "/v/credentials/x", "", 200, &same)
	lying.Put("kv/x", map[string]any{"key": wrong})
	call("POST", "/v/credentials/x/refresh", "", 200, nil)
	call("GET", "/v/credentials/x", "", 200, &changed)
	if same.Version != 3 || !same.RotateDue.Equal(*before.RotateDue) {
		t.Errorf("read anew, and the same: version %d, due %s; before %s", same.Version, same.RotateDue, before.RotateDue)
	}
	if changed.Version != 4 || !changed.RotateDue.After(*before.RotateDue) || changed.RotateDue.Sub(changed.RotatedAt) != before.RotateDue.Sub(before.RotatedAt) {
		t.Errorf("read anew, and another: version %d, due %s; before %s", changed.Version, changed.RotateDue, before.RotateDue)
	}
}
