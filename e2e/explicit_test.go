package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"sallyport/e2e"
)

// proxied is a shell's way to run a command as programs are run that must be told
// of a proxy.
const proxied = `export http_proxy=$SALLYPORT_PROXY https_proxy=$SALLYPORT_PROXY HTTP_PROXY=$SALLYPORT_PROXY HTTPS_PROXY=$SALLYPORT_PROXY NODE_USE_ENV_PROXY=1; `

// TestExplicitProxy: clients that use the interception port as their proxy get
// what intercepted ones do.
func TestExplicitProxy(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.Pinned("agent", token, "--host", e2e.EchoHost, "--inject", "bearer")
	w.InstallNode()
	url := "https://" + e2e.EchoHost
	for name, command := range map[string]string{
		"curl":     "curl -sSf -x $SALLYPORT_PROXY " + url + "/curl",
		"curl-h1":  "curl -sSf --http1.1 -x $SALLYPORT_PROXY " + url + "/curl-h1",
		"curl-env": proxied + "curl -sSf " + url + "/curl-env",
		"requests": proxied + "/usr/bin/python3 " + w.Client("get.py") + " requests " + url + "/requests",
		"urllib":   proxied + `/usr/bin/python3 -c 'import urllib.request, sys; print(urllib.request.urlopen(sys.argv[1]).status)' ` + url + "/urllib",
		"undici": proxied + `node -e 'const {fetch, EnvHttpProxyAgent} = require("undici"); fetch(process.argv[1], {dispatcher: new EnvHttpProxyAgent()}).then(r => { if (!r.ok) process.exit(1) })' ` +
			url + "/undici",
		"go": proxied + w.Client("goclient") + " " + url + "/go",
	} {
		t.Run(name, func(t *testing.T) {
			w := w.In(t)
			w.Run("agent", "sh", "-c", command)
			if seen := w.Nginx.Seen("/" + name); seen[0].Authorization != "Bearer "+token || seen[0].Host != e2e.EchoHost {
				t.Errorf("%s came to %s with %q", name, seen[0].Host, seen[0].Authorization)
			}
		})
	}
	t.Run("absolute-form", func(t *testing.T) {
		w := w.In(t)
		w.Run("agent", "sh", "-c", "curl -sSf -x $SALLYPORT_PROXY http://"+e2e.EchoHost+"/plain http://"+e2e.PublicHost+"/plain")
		for _, seen := range w.Nginx.Seen("/plain") {
			if seen.Authorization != "" {
				t.Errorf("plain HTTP was given %q", seen.Authorization)
			}
		}
	})
}

// TestExplicitProxySteering tries to have the credential sent elsewhere, and to
// reach what an intercepted connection could not.
func TestExplicitProxySteering(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.Pinned("agent", token, "--host", e2e.EchoHost, "--inject", "bearer")
	control := strings.TrimPrefix(w.SidecarURL, "https://")
	tls := func(connect, servername, request string) string {
		return fmt.Sprintf(`printf '%s' | timeout 10 openssl s_client -quiet -proxy ${SALLYPORT_PROXY#http://} -connect %s -servername %s`, request, connect, servername)
	}
	raw := func(request string) string { // until the answer ends, or two seconds are over
		return fmt.Sprintf(`exec 3<>/dev/tcp/127.0.0.1/${SALLYPORT_PROXY##*:}; printf '%s' >&3; timeout 2 cat <&3`, request)
	}
	get := func(host, path string) string {
		return fmt.Sprintf(`GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n`, path, host)
	}
	connect := func(target string) string {
		return fmt.Sprintf(`CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n\r\n`, target)
	}
	for _, tt := range []struct {
		name, command string
		log           string // a code in the sidecar's log
		answer        string // what the client reads
	}{
		{"sni-of-another", tls(e2e.PublicHost+":443", e2e.EchoHost, get(e2e.EchoHost, "/sni-of-another")), "misdirected", ""},
		{"sni-of-the-bound", tls(e2e.EchoHost+":443", e2e.PublicHost, get(e2e.PublicHost, "/sni-of-the-bound")), "misdirected", ""},
		{"host-of-another", tls(e2e.EchoHost+":443", e2e.EchoHost, get(e2e.PublicHost, "/host-of-another")), "misdirected", "421"},
		{"no-sni", `printf '` + get(e2e.EchoHost, "/no-sni") + `' | timeout 10 openssl s_client -quiet -noservername -proxy ${SALLYPORT_PROXY#http://} -connect ` + e2e.EchoHost + `:443`, "misdirected", ""},
		{"address", `printf '` + get(e2e.EchoHost, "/address") + `' | timeout 10 openssl s_client -quiet -noservername -proxy ${SALLYPORT_PROXY#http://} -connect 192.0.2.7:443`, "no_sni", ""},
		{"metadata", raw(connect("169.254.169.254:80") + get("169.254.169.254", "/metadata")), "bad_host", "400"},
		{"metadata-name", raw(connect("169.254.169.254:443")), "", ""},
		{"control", raw(connect(control) + "x"), "port_refused", ""},
		{"itself", raw(connect("127.0.0.1:15001") + get(e2e.EchoHost, "/itself")), "port_refused", ""},
		{"itself-by-name", raw(connect("localhost:15001") + "x"), "port_refused", ""},
		{"port", raw(connect(e2e.EchoHost+":22") + "x"), "port_refused", ""},
		{"nested", raw(connect(e2e.EchoHost+":80") + connect(e2e.PublicHost+":80")), "connect_refused", "405"},
		{"plain-host-of-another", raw(connect(e2e.PublicHost+":80") + get(e2e.EchoHost, "/plain-host-of-another")), "misdirected", "421"},
		{"absolute-in-tunnel", raw(connect(e2e.PublicHost+":80") + get(e2e.PublicHost, "http://"+e2e.PublicHost+"/absolute-in-tunnel")), "malformed_request", "400"},
		{"absolute-host", raw(get(e2e.PublicHost, "http://"+e2e.EchoHost+"/absolute-host")), "malformed_request", "400"},
		{"absolute-https", raw(get(e2e.EchoHost, "https://"+e2e.EchoHost+"/absolute-https")), "malformed_request", "400"},
		{"absolute-metadata", raw(get("169.254.169.254", "http://169.254.169.254/absolute-metadata")), "bad_host", "400"},
		{"absolute-loop", raw(get("localhost:15001", "http://localhost:15001/absolute-loop")), "policy_denied", "403"},
		{"absolute-control", raw(get("localhost:8201", "http://localhost:8201/absolute-control")), "policy_denied", "403"},
		{"absolute-private", raw(get("localhost", "http://localhost/absolute-private")), "forbidden_address", "403"},
		{"tls-to-the-proxy", "curl -sSk -x https://${SALLYPORT_PROXY#http://} https://" + e2e.EchoHost + "/tls-to-the-proxy", "direct", ""},
		{"intercepted-connect", `exec 3<>/dev/tcp/` + e2e.EchoHost + `/80; printf '` + connect(e2e.PublicHost+":80") + `' >&3; timeout 2 cat <&3`, "connect_refused", "405"},
		{"intercepted-absolute", `exec 3<>/dev/tcp/` + e2e.EchoHost + `/80; printf '` + get(e2e.PublicHost, "http://"+e2e.PublicHost+"/intercepted-absolute") + `' >&3; timeout 2 cat <&3`, "malformed_request", "400"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := w.In(t)
			r := w.TryRun("agent", "bash", "-c", tt.command)
			if !strings.Contains(r.Stderr, tt.log) {
				t.Errorf("the log has no %s:\n%s", tt.log, r.Stderr)
			}
			if !strings.Contains(r.Stdout, tt.answer) || strings.Contains(r.Stdout, "authorization:") {
				t.Errorf("the client read, want %q:\n%s", tt.answer, r.Stdout)
			}
			w.Nginx.SeenNone("/" + tt.name)
		})
	}
}
