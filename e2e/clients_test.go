package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/e2e"
)

const libraryKey = "library-key-0123456789abcdef"

// TestLibraries is TestClients for more of them: each is told of no proxy, brings
// a placeholder or nothing, and its one request arrives with the key.
func TestLibraries(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.InstallNode()
	w.Pinned("agent", libraryKey, "--host", e2e.EchoHost, "--inject", "bearer")

	url := func(client string) string { return "https://" + e2e.EchoHost + "/" + client }
	node := func(library string) []string {
		return []string{"node", w.Client("http.mjs"), library, url(library), "vault:agent"}
	}
	java := func(client, version string) []string {
		return []string{"java", w.Client("Get.java"), url(client), "vault:agent", version}
	}
	// A request by hand through a tool that only does TLS. It waits for the answer's end.
	byHand := func(client, tool string) []string {
		return []string{"sh", "-c", fmt.Sprintf(`{ printf 'GET /%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n'; sleep 1; } | %s`, client, e2e.EchoHost, tool)}
	}
	for _, tt := range []struct {
		client  string
		command []string
		want    string // in what the client prints
	}{
		{"wget", []string{"wget", "-qO-", "-S", "--header=Authorization: Bearer vault:agent", url("wget")}, "HTTP/1.1 200"},
		{"undici", node("undici"), "200 host: " + e2e.EchoHost},
		{"axios", node("axios"), "200 host: " + e2e.EchoHost},
		{"got", node("got"), "200 host: " + e2e.EchoHost},
		{"aiohttp", []string{"/usr/bin/python3", w.Client("get.py"), "aiohttp", url("aiohttp"), "vault:agent"}, "200\nhost: "},
		{"java-http1", java("java-http1", "HTTP_1_1"), "200 HTTP_1_1"},
		{"java-http2", java("java-http2", "HTTP_2"), "200 HTTP_2"},
		{"openssl", byHand("openssl", "openssl s_client -quiet -verify_return_error -verify_hostname HOST -servername HOST -connect HOST:443"), "HTTP/1.1 200"},
		{"gnutls", byHand("gnutls", "gnutls-cli HOST"), "HTTP/1.1 200"},
	} {
		t.Run(tt.client, func(t *testing.T) {
			w := w.In(t)
			for i := range tt.command {
				tt.command[i] = strings.ReplaceAll(tt.command[i], "HOST", e2e.EchoHost)
			}
			r := w.TryRun("agent", tt.command...)
			if r.Status != 0 || !strings.Contains(r.Stdout+r.Stderr, tt.want) {
				t.Fatalf("exit status %d, want %q printed:\n%s%s", r.Status, tt.want, r.Stdout, r.Stderr)
			}
			noSecret(t, r, libraryKey)
			seen := w.Nginx.Seen("/" + tt.client)
			if len(seen) != 1 || seen[0].Authorization != "Bearer "+libraryKey || seen[0].TLS == "" {
				t.Errorf("upstream saw %+v, want one request with the key", seen)
			}
		})
	}
}

// TestSDKs calls vendors' APIs, each a fake that demands the exact credential, with
// the vendors' SDKs. The version of the API that an SDK is made for arrives; curl
// knows none and gets the service's.
func TestSDKs(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.InstallNode()
	const key = "sdk-key-0123456789abcdef"
	versions := make(chan string, 16)
	versioned := func(header string, api http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			versions <- strings.Join(r.Header.Values(header), ", ")
			api.ServeHTTP(rw, r)
		})
	}
	wantVersion := func(t *testing.T, want string) {
		t.Helper()
		select {
		case got := <-versions:
			if got != want {
				t.Errorf("the upstream saw version %q, want %q", got, want)
			}
		default:
			t.Error("the upstream saw no request")
		}
	}
	turn := make(chan struct{})
	words := []string{"one", "two", "three"}
	for host, api := range map[string]http.Handler{
		e2e.NotionHost: versioned("Notion-Version", e2e.FakeNotion(key)),
		e2e.OpenAIHost: e2e.FakeOpenAI(key, words, turn),
		e2e.ModelHost:  versioned("Anthropic-Version", e2e.FakeAnthropic(key, words, turn)),
	} {
		w.OriginServer(host, api, "h2", "http/1.1")
	}
	w.CLI("vault", "create", "agent")
	for _, service := range []string{"notion", "openai", "anthropic"} {
		w.Credential("agent", service, key, "--service", service)
	}
	w.CLI("agent", "create", "agent")
	w.CLI("agent", "pin", "agent", "agent")

	for call, want := range map[string]string{"notion": "user Sallyport\n", "openai": "model e2e\n"} {
		t.Run(call, func(t *testing.T) {
			r := w.In(t).TryRun("agent", "node", w.Client("sdk.mjs"), call, "vault:"+call)
			if r.Status != 0 || r.Stdout != want {
				t.Errorf("exit status %d, want %q printed:\n%s%s", r.Status, want, r.Stdout, r.Stderr)
			}
			noSecret(t, r, key)
			if call == "notion" {
				wantVersion(t, "2025-09-03")
			}
		})
	}
	for url, version := range map[string]string{
		"https://" + e2e.NotionHost + "/v1/users/me": "2022-06-28",
		"https://" + e2e.ModelHost + "/v1/models":    "2023-06-01",
	} {
		t.Run("curl "+url, func(t *testing.T) {
			if r := w.In(t).TryRun("agent", "curl", "-sf", url); r.Status != 0 {
				t.Errorf("exit status %d:\n%s%s", r.Status, r.Stdout, r.Stderr)
			}
			wantVersion(t, version)
		})
	}
	// The next word of a stream is not sent before the SDK has given out the one before.
	for _, vendor := range []string{"openai", "anthropic"} {
		t.Run(vendor+"-stream", func(t *testing.T) {
			p := w.In(t).Start("agent", "node", w.Client("sdk.mjs"), vendor+"-stream", "vault:"+vendor)
			for _, word := range words {
				turn <- struct{}{}
				if line := p.Line(); line != word {
					t.Fatalf("the SDK gave out %q, want %q", line, word)
				}
			}
			if status := p.Wait(); status != 0 {
				t.Errorf("exit status %d", status)
			}
			if vendor == "anthropic" {
				wantVersion(t, "2026-10-21")
			}
		})
	}
}

// TestAWS: a client that signs its requests with a key of its own passes unharmed.
// The fake behind checks the signature, so nothing that was signed is changed.
func TestAWS(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	const keyID, secret = "AKIDE2E0000000000000", "its-own-secret-0123456789abcdef0123456789"
	for _, host := range []string{e2e.STSHost, e2e.S3Host} {
		w.OriginServer(host, e2e.FakeAWS(keyID, secret), "http/1.1")
	}
	w.CLI("agent", "create", "agent")
	aws := "AWS_ACCESS_KEY_ID=" + keyID + " AWS_SECRET_ACCESS_KEY=" + secret + " AWS_EC2_METADATA_DISABLED=true AWS_REGION=us-east-1 /usr/bin/aws "
	const object = "s3://sallyport-e2e/a/key%20with+%C3%BC.txt"

	for name, tt := range map[string]struct{ script, want string }{
		"sts":   {aws + "sts get-caller-identity --query Account --output text", "123456789012\n"},
		"s3":    {"echo carried >/tmp/file && " + aws + "s3 cp --quiet /tmp/file '" + object + "' && " + aws + "s3 cp '" + object + "' -", "carried\n"},
		"wrong": {strings.Replace(aws, secret, "another", 1) + "sts get-caller-identity 2>&1 | grep -o SignatureDoesNotMatch", "SignatureDoesNotMatch\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if r := w.In(t).TryRun("agent", "sh", "-c", tt.script); r.Status != 0 || r.Stdout != tt.want {
				t.Errorf("exit status %d, want %q printed:\n%s%s", r.Status, tt.want, r.Stdout, r.Stderr)
			}
		})
	}
}

// TestPackageManagers install a package from a private index, whose credential they
// don't have.
func TestPackageManagers(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.StartPackages()
	w.CLI("vault", "create", "agent")
	basic := []string{"--inject", "basic", "--auth", "basic", "--username", e2e.PackageUser}
	w.Credential("agent", "pypi", e2e.PackageKey, append(basic, "--host", e2e.PyPIHost)...)
	w.Credential("agent", "apt", e2e.PackageKey, append(basic, "--host", e2e.APTHost)...)
	w.Credential("agent", "npm", e2e.PackageKey, "--inject", "bearer", "--host", e2e.NPMHost)
	w.CLI("agent", "create", "agent")
	w.CLI("agent", "pin", "agent", "agent")
	w.CLI("agent", "create", "other")

	const pip = "/usr/bin/python3 -m pip install -q --no-input --no-cache-dir --disable-pip-version-check --root-user-action ignore " +
		"--target /tmp/lib --index-url https://" + e2e.PyPIHost + "/simple/ " + e2e.PackageName
	const npm = "mkdir /tmp/app && cd /tmp/app && npm install --silent --no-audit --no-fund --cache /tmp/npm --registry https://" + e2e.NPMHost + "/ " + e2e.PackageName
	const apt = "mkdir -p /tmp/apt/lists/partial /tmp/apt/cache/archives/partial && echo 'deb [trusted=yes] https://" + e2e.APTHost + "/ ./' >/tmp/apt/sources.list && " +
		"apt() { apt-get -qq -o Debug::NoLocking=1 -o Dir::Etc::Parts=- -o Dir::Etc::SourceList=/tmp/apt/sources.list -o Dir::Etc::SourceParts=- -o Dir::State::Lists=/tmp/apt/lists -o Dir::Cache=/tmp/apt/cache \"$@\"; } && " +
		"apt update --error-on=any && apt install --download-only -y --reinstall " + e2e.PackageName
	for _, tt := range []struct{ name, install, use, want string }{
		{"pip", pip, "PYTHONPATH=/tmp/lib /usr/bin/python3 -c 'import sallyport_demo'", "imported the wheel\n"},
		{"npm", npm, "node -e 'require(\"" + e2e.PackageName + "\")'", "required the package\n"},
		{"apt", apt, "dpkg-deb -f /tmp/apt/cache/archives/*.deb Package", e2e.PackageName + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := w.In(t)
			r := w.TryRun("agent", "sh", "-c", tt.install+" >&2 && "+tt.use)
			if r.Status != 0 || r.Stdout != tt.want {
				t.Errorf("exit status %d, want %q printed:\n%s%s", r.Status, tt.want, r.Stdout, r.Stderr)
			}
			noSecret(t, r, e2e.PackageKey)
			if r := w.TryRun("other", "sh", "-c", tt.install); r.Status == 0 {
				t.Errorf("an agent without the credential installed it too:\n%s%s", r.Stdout, r.Stderr)
			}
		})
	}
}

// TestChromium loads a page, over HTTP/2, in browsers that trust what no variable or
// bundle tells them.
func TestChromium(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	const key = "browser-key-0123456789abcdef"
	w.OriginServer("www.sallyport.test", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(rw, `<p>key: %t</p><p id=way></p><script>
			way.textContent = "protocol: " + performance.getEntriesByType("navigation")[0].nextHopProtocol</script>`,
			r.Header.Get("Authorization") == "Bearer "+key)
	}), "h2")
	w.Pinned("agent", key, "--host", "www.sallyport.test", "--inject", "bearer")
	const page = " --no-sandbox --disable-gpu --dump-dom https://www.sallyport.test/"
	for _, tt := range []struct {
		name, command string
		by            *e2e.World
	}{
		{"chromium", "chromium --headless" + page, w},
		{"chromium of an ordinary user", "chromium --headless" + page, w.AsOrdinaryUser()},
		// It knows no policies, so the agent has to tell it, as docs/troubleshooting.md says.
		{"headless shell", "mkdir -p ~/.pki/nssdb && certutil -d sql:$HOME/.pki/nssdb -N --empty-password && " +
			"certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n sallyport -i /run/sallyport/ca.pem && chromium-headless-shell" + page, w},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := tt.by.In(t).TryRun("agent", "sh", "-c", "export HOME=/tmp/home && "+tt.command)
			if !strings.Contains(r.Stdout, "<p>key: true</p>") || !strings.Contains(r.Stdout, ">protocol: h2</p>") {
				t.Errorf("exit status %d, the page was\n%s%s", r.Status, r.Stdout, r.Stderr)
			}
			noSecret(t, r, key)
		})
	}
	if left, err := filepath.Glob("/etc/chromium/policies/managed/*sallyport*"); err != nil || len(left) > 0 {
		t.Errorf("the machine has %v (%v)", left, err)
	}
	if _, err := os.Stat("/etc/chromium"); err != nil {
		t.Errorf("this machine can't show that the policy works: %v", err)
	}
}

// noSecret fails the test when a sandbox has put out the secret.
func noSecret(t *testing.T, r e2e.Result, secret string) {
	t.Helper()
	if strings.Contains(r.Stdout+r.Stderr, secret) {
		t.Errorf("the key came back into the sandbox:\n%s%s", r.Stdout, r.Stderr)
	}
}
