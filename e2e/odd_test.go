package e2e_test

import (
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sallyport/e2e"
)

// TestOddClients speak TLS as few do. Those that can be served are, with the
// credential; the others learn why not, at once.
func TestOddClients(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.Pinned("agent", token, "--host", e2e.EchoHost, "--inject", "bearer")
	const host = e2e.EchoHost
	other := w.Client("other-ca.pem") // an authority that has nothing to do with the sandbox
	text, err := os.ReadFile(w.UpstreamCA())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, text, 0o644); err != nil {
		t.Fatal(err)
	}
	get := func(path string) string {
		return `printf 'GET ` + path + ` HTTP/1.1\r\nHost: ` + host + `\r\nConnection: close\r\n\r\n'; sleep 1`
	}
	openssl := func(path, flags string) string {
		return "(" + get(path) + ") | timeout 10 openssl s_client -quiet -verify_return_error -connect " + host + ":443 -servername " + host + " " + flags
	}
	dribble := `import socket, ssl, sys
host = sys.argv[1]
raw = socket.create_connection((host, 443))
raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = ssl.create_default_context().wrap_bio(inward, outward, server_hostname=host)
def run(step):
    while True:
        try:
            return step()
        except ssl.SSLWantReadError:
            for byte in outward.read():
                raw.send(bytes([byte]))
            inward.write(raw.recv(65536))
run(tls.do_handshake)
tls.write(b"GET /dribble HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n")
for byte in outward.read():
    raw.send(bytes([byte]))
print(run(lambda: tls.read(65536)).decode())`
	for _, tt := range []struct {
		name, command string
		code          string // of the refusal, in the log; empty: it is served
	}{
		{"tls12", openssl("/tls12", "-tls1_2"), ""},
		{"tls13", openssl("/tls13", "-tls1_3"), ""},
		{"gnutls", "(" + get("/gnutls") + ") | timeout 10 gnutls-cli --logfile=/dev/null " + host, ""},
		{"ml-kem", w.Client("goclient") + " https://" + host + "/ml-kem", ""}, // Go offers X25519MLKEM768 first
		{"dribble", "/usr/bin/python3 -c '" + dribble + "' " + host, ""},
		{"http10", openssl("/http10", "-alpn http/1.0"), ""},
		{"no-alpn", openssl("/no-alpn", ""), ""},
		{"case-of-sni", "(" + get("/case-of-sni") + ") | timeout 10 openssl s_client -quiet -connect " + host + ":443 -servername ECHO.example.TEST", ""},
		{"resumed", "(" + get("/first") + ") | timeout 10 openssl s_client -quiet -connect " + host + ":443 -servername " + host + " -sess_out /tmp/s -tls1_3; " +
			"(" + get("/resumed") + ") | timeout 10 openssl s_client -connect " + host + ":443 -servername " + host + " -sess_in /tmp/s -tls1_3 | tee /dev/stderr | grep -q '^Reused'", ""},
		{"resumed12", "(" + get("/first12") + ") | timeout 10 openssl s_client -quiet -connect " + host + ":443 -servername " + host + " -sess_out /tmp/s -tls1_2; " +
			"(" + get("/resumed12") + ") | timeout 10 openssl s_client -connect " + host + ":443 -servername " + host + " -sess_in /tmp/s -tls1_2 | tee /dev/stderr | grep -q '^Reused'", ""},

		{"no-sni", strings.Replace(openssl("/no-sni", ""), "-servername "+host, "-noservername", 1), "no_sni"},
		{"sni-of-address", "(" + get("/sni-of-address") + ") | timeout 10 openssl s_client -quiet -connect 192.0.2.7:443 -servername 192.0.2.7", "no_sni"},
		{"by-address", "curl -sSk https://192.0.2.7/by-address", "no_sni"},
		{"acme", openssl("/acme", "-alpn acme-tls/1"), "alpn_refused"},
		{"tls11", openssl("/tls11", "-tls1_1 -cipher ALL:@SECLEVEL=0"), "old_tls"},
		{"untrusting-openssl", openssl("/untrusting-openssl", "-CAfile "+other+" -no-CApath -no-CAstore"), "untrusted_ca"},
		{"untrusting-gnutls", "(" + get("/untrusting-gnutls") + ") | timeout 10 gnutls-cli --logfile=/dev/null --x509cafile=" + other + " " + host, "untrusted_ca"},
		{"untrusting-curl", "curl -sS --cacert " + other + " https://" + host + "/untrusting-curl", "untrusted_ca"},
		{"untrusting-python", "REQUESTS_CA_BUNDLE=" + other + " /usr/bin/python3 " + w.Client("get.py") + " requests https://" + host + "/untrusting-python", "untrusted_ca"},
		{"untrusting-go", "SSL_CERT_DIR=/nonexistent SSL_CERT_FILE=" + other + " " + w.Client("goclient") + " https://" + host + "/untrusting-go", "untrusted_ca"},
		{"untrusting-node", `NODE_EXTRA_CA_CERTS= node -e 'fetch(process.argv[1]).catch(e => { console.log(e.cause.code); process.exit(1) })' https://` + host + "/untrusting-node", "untrusted_ca"},
		{"untrusting-java", "keytool -importcert -noprompt -file " + other + " -keystore /tmp/other.p12 -storepass changeit >/dev/null 2>&1; " +
			"java -Djavax.net.ssl.trustStore=/tmp/other.p12 -Djavax.net.ssl.trustStorePassword=changeit " + w.Client("Get.java") + " https://" + host + "/untrusting-java", "untrusted_ca"},
		{"sslv2", `exec 3<>/dev/tcp/` + host + `/443; printf '\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80\x02\x00\x80' >&3; timeout 2 cat <&3`, "not_http"},
		{"garbage", `exec 3<>/dev/tcp/` + host + `/443; printf '\x00\x01\x02' >&3; timeout 2 cat <&3`, "not_http"},
		{"false-hello", `exec 3<>/dev/tcp/` + host + `/443; printf '\x16\x03\x01\x00\x05hello' >&3; timeout 2 cat <&3`, "bad_hello"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := w.In(t)
			r := w.TryRun("agent", "bash", "-c", tt.command)
			if tt.code == "" {
				if seen := w.Nginx.Seen("/" + tt.name); seen[0].Authorization != "Bearer "+token {
					t.Errorf("upstream got %q", seen[0].Authorization)
				}
				if strings.HasPrefix(tt.name, "resumed") && r.Status != 0 {
					t.Errorf("the session was not resumed:\n%s", r.Stderr)
				}
				return
			}
			if !strings.Contains(r.Stderr, "code="+tt.code) {
				t.Errorf("the log has no %s:\n%s", tt.code, r.Stderr)
			}
			remedy := "sallyport agent policy set agent --rule 'passthrough "
			if slices.Contains([]string{"alpn_refused", "old_tls", "untrusted_ca"}, tt.code) {
				remedy = host + " has a credential and is never passed through"
			}
			if tt.code != "bad_hello" && !strings.Contains(r.Stderr, remedy) {
				t.Errorf("the log does not say what to do:\n%s", r.Stderr)
			}
			w.Nginx.SeenNone("/" + tt.name)
		})
	}
}

// TestWrongDoor: HTTP where TLS is usual and TLS where HTTP is, which the upstream
// decides about; neither gets the credential.
func TestWrongDoor(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.Pinned("agent", token, "--host", e2e.EchoHost, "--inject", "bearer", "--allow-http")
	for url, want := range map[string]int{
		"http://" + e2e.EchoHost + ":443/http-on-443": http.StatusBadRequest, // nginx says so
		"https://" + e2e.EchoHost + ":80/tls-on-80":   http.StatusBadGateway,
	} {
		if out := w.Run("agent", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url); out != strconv.Itoa(want) {
			t.Errorf("%s was answered %s, want %d", url, out, want)
		}
	}
	for _, seen := range w.Nginx.SeenSoFar("/") {
		if seen.Authorization != "" {
			t.Errorf("%s came with %q", seen.URI, seen.Authorization)
		}
	}
}
