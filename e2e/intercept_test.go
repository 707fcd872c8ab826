package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"sallyport/e2e"
)

const stripeKey = "sk_test_e2e51HxYzAbCdEfGhIjKlMnOp"

// TestClients runs every client that people use. None is told of a proxy, none
// has the key; each one's request arrives upstream with it.
func TestClients(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.InstallNode()
	w.StartStripe()
	w.Pinned("agent", stripeKey, "--service", "stripe")
	w.Credential("agent", "git", e2e.GitPassword, "--host", e2e.GitHost, "--inject", "basic", "--auth", "basic", "--username", e2e.GitUser)
	w.Credential("agent", "echo", "echo-key-0123456789abcdef", "--host", e2e.EchoHost, "--inject", "bearer")

	url := func(client string) string { return "https://" + e2e.EchoHost + "/" + client }
	tests := []struct {
		client   string
		command  []string
		protocol string // seen upstream
		want     string // in what the client prints
	}{
		{"curl-http1", []string{"curl", "-sS", "--http1.1", "-w", "%{http_version}", url("curl-http1")}, "", "1.1"},
		{"curl-http2", []string{"curl", "-sS", "--http2", "-w", "%{http_version}", url("curl-http2")}, "HTTP/2.0", "2"},
		{"curl-own-key", []string{"curl", "-sS", "-H", "Authorization: Bearer its-own-key", url("curl-own-key")}, "", "host: " + e2e.EchoHost},
		{"curl-placeholder", []string{"curl", "-sS", "-H", "Authorization: Bearer vault:echo", url("curl-placeholder")}, "", "host: " + e2e.EchoHost},
		{"requests", []string{"/usr/bin/python3", w.Client("get.py"), "requests", url("requests"), "vault:echo"}, "", "200"},
		{"httpx", []string{"/usr/bin/python3", w.Client("get.py"), "httpx", url("httpx"), "vault:echo"}, "", "200"},
		{"node-fetch", []string{"node", w.Client("fetch.cjs"), url("node-fetch"), "vault:echo"}, "", "200"},
		{"go", []string{w.Client("goclient"), url("go"), "vault:echo"}, "HTTP/2.0", "200"},
		{"java", []string{"java", w.Client("Get.java"), url("java"), "vault:echo"}, "", "200"},
	}
	for _, tt := range tests {
		t.Run(tt.client, func(t *testing.T) {
			w := w.In(t)
			r := w.TryRun("agent", tt.command...)
			if r.Status != 0 || !strings.Contains(r.Stdout, tt.want) {
				t.Fatalf("exit status %d, want %q printed:\n%s%s", r.Status, tt.want, r.Stdout, r.Stderr)
			}
			if strings.Contains(r.Stdout+r.Stderr, "echo-key-") {
				t.Errorf("the key came back into the sandbox:\n%s%s", r.Stdout, r.Stderr)
			}
			seen := w.Nginx.Seen("/" + tt.client)
			if len(seen) != 1 || seen[0].Authorization != "Bearer echo-key-0123456789abcdef" {
				t.Errorf("upstream saw %+v, want one request with the key", seen)
			}
			if tt.protocol != "" && seen[0].Protocol != tt.protocol {
				t.Errorf("upstream was spoken to in %s, want %s", seen[0].Protocol, tt.protocol)
			}
			if seen[0].TLS == "" {
				t.Errorf("upstream was spoken to without TLS")
			}
		})
	}

	t.Run("stripe-sdk", func(t *testing.T) {
		w := w.In(t)
		if got := w.Run("agent", "node", w.Client("stripe.cjs"), "vault:stripe"); got != "200 charge of 4200 eur\n" {
			t.Errorf("the SDK printed %q", got)
		}
	})
	t.Run("stripe-requests", func(t *testing.T) {
		w := w.In(t)
		if got := w.Run("agent", "/usr/bin/python3", w.Client("balance.py"), "vault:stripe"); got != "200 balance\n" {
			t.Errorf("requests printed %q", got)
		}
	})
	for _, seen := range append(w.Nginx.Seen("/v1/charges"), w.Nginx.Seen("/v1/balance")...) {
		if seen.Authorization != "Bearer "+stripeKey {
			t.Errorf("%s %s came with %q", seen.Method, seen.URI, seen.Authorization)
		}
	}
	t.Run("git", func(t *testing.T) {
		w := w.In(t)
		out := w.Run("agent", "sh", "-c", fmt.Sprintf("cd /tmp && git ls-remote https://%[1]s/demo.git && git clone -q https://%[1]s/demo.git clone-$$ && git -C clone-$$ log --format=%%s && rm -rf clone-$$", e2e.GitHost))
		if !strings.Contains(out, "refs/heads/main") || !strings.Contains(out, "First") {
			t.Errorf("git printed %q", out)
		}
		// It asks without a credential first, as git does; injection did not wait for a 401.
		for _, seen := range w.Nginx.Seen("demo.git") {
			if seen.Status != 200 {
				t.Errorf("git's %s %s was answered %d", seen.Method, seen.URI, seen.Status)
			}
		}
	})
}

// TestPortEighty is plain HTTP: it passes, without a credential.
func TestPortEighty(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.Pinned("agent", "echo-key-0123456789abcdef", "--host", e2e.EchoHost, "--inject", "bearer")
	w.Run("agent", "curl", "-sS", "http://"+e2e.EchoHost+"/plain")
	if seen := w.Nginx.Seen("/plain"); seen[0].Authorization != "" {
		t.Errorf("plain HTTP was given %q", seen[0].Authorization)
	}
}

// TestOtherPorts are refused at once, with a log line that says what would help.
func TestOtherPorts(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.CLI("agent", "create", "agent")
	r := w.TryRun("agent", "curl", "-sS", "--max-time", "10", "https://"+e2e.EchoHost+":8443/")
	if r.Status == 0 || r.Status == 28 { // 28: it ran into a timeout
		t.Errorf("curl ended with status %d, want a refusal:\n%s", r.Status, r.Stdout+r.Stderr)
	}
	if !strings.Contains(r.Stderr, "8443") {
		t.Errorf("no log line says how to allow the port:\n%s", r.Stderr)
	}
}

// TestUpstreamCertificate: an upstream that can't prove its name gets nothing.
func TestUpstreamCertificate(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.Pinned("agent", "echo-key-0123456789abcdef", "--host", "unproven.sallyport.test", "--inject", "bearer")
	out := w.CLI("run", "--agent", "agent", "--upstream-ca", w.UpstreamCA(),
		"--connect-to", fmt.Sprintf("unproven.sallyport.test:443:127.0.0.1:%d", w.Nginx.TLS), "--",
		"curl", "-sS", "-D", "-", "https://unproven.sallyport.test/unproven")
	if !strings.Contains(out, "502") || !strings.Contains(strings.ToLower(out), "sallyport-error: upstream_certificate") {
		t.Errorf("curl printed\n%s", out)
	}
	w.Nginx.SeenNone("/unproven")
}
