package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	p := serve(t, dir)
	for _, name := range []string{"admin-token", "ca.pem", "kek"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	if status, body := p.call(t, "GET", "/v1/teams", ""); status != 200 || !strings.Contains(body, `"name":"default"`) {
		t.Errorf("teams: %d %s", status, body)
	}
	if status, body := p.call(t, "GET", "/v1/info", ""); status != 200 || !strings.Contains(body, `"role":"owner"`) || !strings.Contains(body, `"sidecar_url":"https://127.0.0.1:`) {
		t.Errorf("info: %d %s", status, body)
	}
	if status, body := get(t, p.admin+"/readyz"); status != 200 {
		t.Errorf("readyz: %d %s", status, body)
	}
	token, err := os.ReadFile(filepath.Join(dir, "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	if said := p.stdout.String() + p.stderr.String(); strings.Contains(said, strings.TrimSpace(string(token))[3:]) {
		t.Error("it prints the token")
	}
	for _, place := range []string{p.admin, filepath.Join(dir, "admin-token"), filepath.Join(dir, "ca.pem"), "https://127.0.0.1:", "/metrics"} {
		if !strings.Contains(p.stdout.String(), place) {
			t.Errorf("it does not say %s: %s", place, p.stdout)
		}
	}
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, p.stderr)
	}
}

// Killed at any moment of the first start, it starts again and is complete.
func TestKilledInFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	for wait := 50 * time.Millisecond; wait < 3*time.Second; wait = wait * 5 / 3 {
		p := start(t, dir)
		time.Sleep(wait) // the moment is the point, not something to wait for
		p.end(t, syscall.SIGKILL)
	}
	p := serve(t, dir)
	if status, body := p.call(t, "GET", "/v1/info", ""); status != 200 || !strings.Contains(body, `"token":"admin"`) {
		t.Errorf("the token of the file does not work: %d %s", status, body)
	}
	if status, body := p.call(t, "POST", "/v1/teams/default/vaults", `{"name":"v"}`); status != 201 {
		t.Errorf("vault: %d %s", status, body)
	}
}

func TestDataSurvivesKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	p := serve(t, dir)
	for _, step := range []struct{ path, body string }{
		{"vaults", `{"name":"v"}`},
		{"vaults/v/credentials", `{"name":"stripe","service":"stripe","secret":"sk_live_1"}`},
		{"agents", `{"name":"a"}`},
		{"agents/a/sandboxes", ``},
	} {
		if status, body := p.call(t, "POST", "/v1/teams/default/"+step.path, step.body); status != 201 {
			t.Fatalf("%s: %d %s", step.path, status, body)
		}
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	p.end(t, syscall.SIGKILL)
	p = serve(t, dir)
	if status, body := p.call(t, "GET", "/v1/teams/default/vaults/v/credentials/stripe", ""); status != 200 || !strings.Contains(body, `"version":1`) {
		t.Errorf("the credential: %d %s", status, body)
	}
	// The data key opens again: a new version can be sealed under it.
	if status, body := p.call(t, "POST", "/v1/teams/default/vaults/v/credentials/stripe/rotate", `{"secret":"sk_live_2"}`); status != 200 {
		t.Errorf("rotate: %d %s", status, body)
	}
	if again, err := os.ReadFile(filepath.Join(dir, "ca.pem")); err != nil || string(again) != string(ca) {
		t.Errorf("the CA is another one (%v)", err)
	}
	// A token that was removed stays removed, whatever the file says.
	if status, body := p.call(t, "DELETE", "/v1/tokens/admin", ""); status != 409 {
		t.Fatalf("remove the last token: %d %s", status, body)
	}
	if status, body := p.call(t, "POST", "/v1/tokens", `{"name":"next","role":"owner"}`); status != 201 {
		t.Fatalf("make another token: %d %s", status, body)
	}
	if status, body := p.call(t, "DELETE", "/v1/tokens/admin", ""); status != 204 {
		t.Fatalf("remove the token: %d %s", status, body)
	}
	p.end(t, syscall.SIGTERM)
	p = serve(t, dir)
	if status, _ := p.call(t, "GET", "/v1/info", ""); status != 401 {
		t.Errorf("a removed token came back: %d", status)
	}
	if strings.Contains(p.stdout.String(), "admin-token") {
		t.Errorf("it names a token that opens nothing: %s", p.stdout)
	}
}

func TestRefusesToStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	p := serve(t, dir)

	if said := start(t, dir).fails(t); !strings.Contains(said, "in use by another sallyport-control") {
		t.Errorf("a second one on the directory: %s", said)
	}
	other := t.TempDir()
	taken := strings.TrimPrefix(p.admin, "http://")
	if said := start(t, other, "--admin-listen", taken).fails(t); !strings.Contains(said, taken) || !strings.Contains(said, "--admin-listen") {
		t.Errorf("a port in use: %s", said)
	}
	if said := start(t, other, "--database", "postgres://nobody:hunter2@127.0.0.1:1/none").fails(t); !strings.Contains(said, "database") || strings.Contains(said, "hunter2") {
		t.Errorf("no such database: %s", said)
	}
	if said := start(t, other, "--database", "mysql://u:hunter2@127.0.0.1/x").fails(t); strings.Contains(said, "hunter2") {
		t.Errorf("not a Postgres URL: %s", said)
	}
	if said := start(t, other, "--sidecar-listen", "0.0.0.0:0").fails(t); !strings.Contains(said, "--sidecar-url") {
		t.Errorf("a sidecar listener without a name: %s", said)
	}
	if said := start(t, other, "--sidecar-url", "http://x").fails(t); !strings.Contains(said, "https://HOST:PORT") {
		t.Errorf("a wrong sidecar URL: %s", said)
	}
	p.end(t, syscall.SIGTERM)

	if said := start(t, other, "--database", "").fails(t); !strings.Contains(said, "--database") || !strings.Contains(said, "empty") {
		t.Errorf("an empty URL: %s", said)
	}
	t.Run("empty variable", func(t *testing.T) {
		t.Setenv("SALLYPORT_DATABASE", "")
		if said := start(t, other).fails(t); !strings.Contains(said, "SALLYPORT_DATABASE") {
			t.Errorf("an empty variable: %s", said)
		}
	})
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "admin-token"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := start(t, broken).fails(t); !strings.Contains(said, "admin-token holds no API token") || !strings.Contains(said, "remove it") {
		t.Errorf("an empty token file: %s", said)
	}

	kek := filepath.Join(dir, "kek")
	saved := kek + ".saved"
	if err := os.Rename(kek, saved); err != nil {
		t.Fatal(err)
	}
	if said := start(t, dir).fails(t); !strings.Contains(said, "key") {
		t.Errorf("a lost key: %s", said)
	}
	if _, err := os.Stat(kek); err == nil {
		t.Error("a lost key was replaced by a new one")
	}
	foreign := filepath.Join(other, "kek")
	serve(t, other).end(t, syscall.SIGTERM)
	if said := start(t, dir, "--kek", foreign).fails(t); !strings.Contains(said, "key") {
		t.Errorf("a wrong key: %s", said)
	}
	if err := os.Rename(saved, kek); err != nil {
		t.Fatal(err)
	}
	serve(t, dir)
}

// Outside loopback the admin API speaks TLS with a certificate of the control CA.
func TestAdminTLS(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	address := freeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	p := serve(t, dir, "--admin-listen", "0.0.0.0:"+port)
	pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	r, err := http.NewRequestWithContext(t.Context(), "GET", "https://localhost:"+port+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := do(t, client, r); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := get(t, "http://"+address+"/healthz"); status == 200 {
		t.Error("it speaks plain HTTP beside")
	}
	if !strings.Contains(p.stdout.String(), "https://") {
		t.Errorf("it says %s", p.stdout)
	}
}

func TestMetrics(t *testing.T) {
	p := serve(t, filepath.Join(t.TempDir(), "new"))
	p.call(t, "GET", "/v1/teams/default/vaults?limit=3", "")
	p.call(t, "GET", "/"+strings.Repeat("no-such-path/", 3), "")
	status, text := get(t, p.metrics+"/metrics")
	if status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	for _, want := range []string{
		`sallyport_control_build_info{`, `sallyport_control_connected_sidecars 0`, `sallyport_control_watch_pushes_total 0`,
		`sallyport_control_admin_requests_total{code="200",route="GET /v1/teams/{team}/vaults"} 1`,
		`sallyport_control_admin_requests_total{code="404",route="/"} 1`,
		`sallyport_control_rotation_propagation_seconds_bucket`, `sallyport_control_audit_events_stored_total`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s", want)
		}
	}
	if strings.Contains(text, "no-such-path") {
		t.Error("a path that a caller chose is a label")
	}
	check := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics (Debian package prometheus): %v\n%s", err, out)
	}
}

func TestCalledWrongly(t *testing.T) {
	for _, tc := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{}, 2, "--help"},
		{[]string{"serve", "--nope"}, 2, "--help"},
		{[]string{"serve", "--log-level", "loud"}, 2, "--help"},
		{[]string{"--help"}, 0, "serve"},
		{[]string{"serve", "--help"}, 0, "127.0.0.1:8201"},
		{[]string{"version"}, 0, "sallyport-control "},
	} {
		cmd, stdout, stderr := command(t, tc.args...)
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != tc.status || !strings.Contains(stdout.String()+stderr.String(), tc.says) {
			t.Errorf("%q: status %d, says %s%s", tc.args, code, stdout, stderr)
		}
	}
}

func TestTellsSystemd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	listener, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	serve(t, filepath.Join(t.TempDir(), "new"))
	message := make([]byte, 64)
	n, err := listener.Read(message)
	if err != nil || string(message[:n]) != "READY=1" {
		t.Errorf("%q, %v", message[:n], err)
	}
}
