package e2e_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"sallyport/control"
	"sallyport/e2e"
)

const grpcHost = "grpc.example.test"

// interopCases are those of grpc-go's own interop_test.sh, which are all that need
// no account of a cloud and no second server.
var interopCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message",
	"special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service",
	"rpc_soak", "channel_soak", "orca_per_rpc", "orca_oob",
}

// serviceConfig has the client look at the load that the server reports; as in
// interop_test.sh.
const serviceConfig = `{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`

// TestGRPCInterop runs grpc-go's own interop client in a sandbox against its
// server, with a credential injected, over TLS; and without either over h2c.
func TestGRPCInterop(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	certificate, key := w.Certificate(grpcHost)
	for _, plain := range []bool{false, true} {
		port := w.FreePort()
		args := []string{"-port", strconv.Itoa(port)}
		if !plain {
			args = append(args, "-use_tls", "-tls_cert_file", certificate, "-tls_key_file", key)
		}
		w.StartTool("grpc-interop-server", port, args...)
		w.Origin(grpcHost, plain, fmt.Sprintf("127.0.0.1:%d", port))
	}
	w.Pinned("agent", token, "--host", grpcHost, "--inject", "bearer")
	client := w.Tool("grpc-interop-client")
	for _, tt := range []struct {
		name, flags, decision string
	}{
		{"tls", "-server_port 443 -use_tls", "inject"},
		{"h2c", "-server_port 80", "inspect"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := w.In(t)
			script := fmt.Sprintf("for c in %s; do if out=$(%s -server_host %s %s -service_config_json '%s' -test_case $c 2>&1); then echo pass $c; else echo \"fail $c: $out\"; fi; done",
				strings.Join(interopCases, " "), client, grpcHost, tt.flags, serviceConfig)
			r := w.TryRun("agent", "sh", "-c", script)
			for _, name := range interopCases {
				if !strings.Contains(r.Stdout, "pass "+name+"\n") {
					t.Errorf("%s did not pass", name)
				}
			}
			if t.Failed() || strings.Contains(r.Stdout, token) {
				t.Errorf("the client said:\n%s\n%s", r.Stdout, r.Stderr)
			}
			calls := 0
			for _, e := range auditOf(t, w) {
				if e.Host == grpcHost && e.Decision == tt.decision && e.Protocol == "HTTP/2.0" {
					calls++
				}
			}
			if calls < len(interopCases) {
				t.Errorf("audit has %d calls with decision %s, want one a case at least", calls, tt.decision)
			}
		})
	}
}

// TestGRPCRedaction has the server echo the credential in its metadata, first
// and last, and a call stay whole though.
func TestGRPCRedaction(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	certificate, key := w.Certificate(grpcHost)
	port := w.FreePort()
	w.StartTool("grpc-interop-server", port, "-port", strconv.Itoa(port), "-use_tls", "-tls_cert_file", certificate, "-tls_key_file", key)
	w.Origin(grpcHost, false, fmt.Sprintf("127.0.0.1:%d", port))
	w.Pinned("agent", token, "--host", grpcHost, "--inject", "header:X-Grpc-Test-Echo-Initial: {{token}}")
	r := w.TryRun("agent", w.Tool("grpc-interop-client"), "-server_host", grpcHost, "-server_port", "443", "-use_tls", "-test_case", "custom_metadata")
	want := strings.Repeat("*", len(token))
	if r.Status == 0 || !strings.Contains(r.Stderr, want) || strings.Contains(r.Stdout+r.Stderr, token) {
		t.Errorf("status %d, want the client to complain of metadata %s in place of its own:\n%s%s", r.Status, want, r.Stdout, r.Stderr)
	}
}

// auditOf gives the audit's newest events.
func auditOf(t *testing.T, w *e2e.World) []control.Event {
	t.Helper()
	var events []control.Event
	if err := json.Unmarshal([]byte(w.CLI("-o", "json", "audit", "list", "--limit", "1000")), &events); err != nil {
		t.Fatal(err)
	}
	return events
}
