package supervise

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const javaClient = `public class Get {
	public static void main(String[] args) throws Exception {
		var c = (java.net.HttpURLConnection) new java.net.URI(args[0]).toURL().openConnection();
		System.out.println(c.getResponseCode());
	}
}`

// Real clients verify a certificate that only the sandbox's CA vouches for.
func TestClientsTrustTheSandboxCA(t *testing.T) {
	dir := publicDir(t)
	java := filepath.Join(dir, "Get.java")
	if err := os.WriteFile(java, []byte(javaClient), 0o644); err != nil {
		t.Fatal(err)
	}
	const url = "https://127.0.0.1:15001/"
	const alone = "env -i PATH=/usr/bin:/bin "
	for name, command := range map[string]string{
		"curl":               "curl -sS " + url,
		"curl, no variables": alone + "curl -sS " + url,
		"wget":               "wget -qO- " + url,
		"openssl":            "openssl s_client -verify_return_error -connect 127.0.0.1:15001 </dev/null",
		"python":             "/usr/bin/python3 -c 'import urllib.request; urllib.request.urlopen(\"" + url + "\")'",
		"requests":           "/usr/bin/python3 -c 'import requests; requests.get(\"" + url + "\")'",
		"node":               "node -e 'fetch(\"" + url + "\").catch(e => { console.error(e); process.exit(1) })'",
		"go":                 "PROBE get " + url,
		"java":               "java " + java + " " + url,
		"java, no variables": alone + "java " + java + " " + url,
		"git":                "git ls-remote " + url + "x 2>&1 | grep 'not valid: is this a git repository'",
	} {
		t.Run(name, func(t *testing.T) {
			p := sh(command)
			p.Behaviour = "tls"
			if status, stdout, stderr := run(t, p, inDir(dir)); status != 0 {
				t.Errorf("exit status %d\n%s%s", status, stdout, stderr)
			}
		})
	}
}

func TestTrustInAnImageWithoutBundle(t *testing.T) {
	p := sh("curl -sS https://127.0.0.1:15001/ && PROBE get https://127.0.0.1:15001/ && cmp $SSL_CERT_FILE $NODE_EXTRA_CA_CERTS")
	p.Behaviour = "tls"
	bare := wrapped("unshare", "--mount", "sh", "-c", `mount -t tmpfs none /etc/ssl && mount -t tmpfs none /usr/lib/ssl && exec "$@"`, "sh")
	if status, stdout, stderr := run(t, p, bare); status != 0 {
		t.Errorf("exit status %d\n%s%s", status, stdout, stderr)
	}
}

// A browser gets the CA by a policy, beside those that the machine has, and the
// machine keeps no trace of it.
func TestBrowsersGetAPolicy(t *testing.T) {
	const made = `mount -t tmpfs none /etc/opt && cd /etc/opt && mkdir -p chrome/policies/managed edge/policies/recommended chrome_for_testing &&
		echo '{"HomepageLocation":"x"}' >chrome/policies/managed/machine.json && ln -s machine.json chrome/policies/managed/link.json &&
		echo y >chrome_for_testing/preferences && cd / && "$@"; status=$?; find /etc/opt -name '*sallyport*'; exit $status`
	p := sh(`cd /etc/opt && cat chrome/policies/managed/link.json chrome_for_testing/preferences && ls edge/policies &&
		for browser in chrome edge chrome_for_testing; do cat $browser/policies/managed/*sallyport.json; echo; done &&
		openssl x509 -in /run/sallyport/ca.pem -outform DER | base64 -w0`)
	lines := strings.Split(mustRun(t, p, wrapped("unshare", "--mount", "sh", "-c", made, "sh")), "\n")
	if len(lines) != 8 || lines[7] == "" {
		t.Fatalf("the agent saw %q", lines)
	}
	policy := `{"CACertificates":["` + lines[7] + `"]}`
	want := []string{`{"HomepageLocation":"x"}`, "y", "managed", "recommended", policy, policy, policy, lines[7]}
	if !slices.Equal(lines, want) {
		t.Errorf("the agent saw\n%q, want\n%q", lines, want)
	}
}

func TestCheckCA(t *testing.T) {
	ca, key := newCA()
	if err := checkCA(append(ca, ca...)); err != nil {
		t.Errorf("two certificates: %v", err)
	}
	for name, text := range map[string]string{
		"nothing": "", "garbage": "x", "private key": "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
		"raw key": string(key), "certificate and more": string(ca) + "x",
	} {
		if checkCA([]byte(text)) == nil {
			t.Errorf("%s passed for a CA", name)
		}
	}
}

func TestAgentEnviron(t *testing.T) {
	got := agentEnviron([]string{"A=1", "JAVA_TOOL_OPTIONS=-Xmx1g", "SSL_CERT_FILE=/mine", "SALLYPORT_SERVER=x", "no_proxy=*", "B=2=3"})
	text := strings.Join(got, "\n")
	for _, want := range []string{"A=1", "B=2=3", "SSL_CERT_FILE=" + bundleFile, "JAVA_TOOL_OPTIONS=-Xmx1g -Djavax.net.ssl.trustStore=" + javaFile} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
	names := make(map[string]bool)
	for _, pair := range got {
		name, _, _ := strings.Cut(pair, "=")
		if names[name] {
			t.Errorf("%s is there twice", name)
		}
		names[name] = true
	}
	for _, name := range []string{"SALLYPORT_SERVER", "no_proxy"} {
		if names[name] {
			t.Errorf("%s was kept", name)
		}
	}
}
