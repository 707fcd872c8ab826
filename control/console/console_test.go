package console_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sallyport/control/console"
)

// TestHeaders: whatever the console answers, nothing foreign runs in it, frames it, or
// keeps it.
func TestHeaders(t *testing.T) {
	url := served(t)
	for path, status := range map[string]int{
		"/": 303, "/console": 303, "/console/": 200, "/console/callback?code=c&state=s": 200, "/console/console.js": 200, "/console/console.css": 200,
		"/console/icon.svg": 200, "/console/none": 404, "/console/static/index.html": 404, "/console/../console.go": 404, "/console/session": 405,
		"/console/v1/info": 401, "/console/v1/none": 404,
	} {
		r := ask(t, "GET", url+path, "", browser{})
		if r.Status != status {
			t.Errorf("%s: %d, want %d", path, r.Status, status)
		}
		policy := r.Header.Get("Content-Security-Policy")
		for _, directive := range []string{
			"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'",
			"require-trusted-types-for 'script'", "trusted-types 'none'",
		} {
			if !strings.Contains(policy+";", directive+";") {
				t.Errorf("%s: the policy %q has no %q", path, policy, directive)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") || strings.Contains(policy, "*") {
			t.Errorf("%s: the policy is %q", path, policy)
		}
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %s: %q", path, name, got)
			}
		}
		static := status == 200 && !strings.Contains(path, "callback")
		if got := r.Header.Get("Cache-Control"); static != (got == "no-cache") || !static && got != "no-store" {
			t.Errorf("%s: Cache-Control: %q", path, got)
		}
		if r.Header.Get("Access-Control-Allow-Origin") != "" || r.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %v", path, r.Header)
		}
	}
	if r := ask(t, "GET", url+"/", "", browser{}); r.Header.Get("Location") != "/console/" {
		t.Errorf("/ leads to %q", r.Header.Get("Location"))
	}
	page := ask(t, "GET", url+"/console/", "", browser{})
	if r := ask(t, "GET", url+"/console/", "", browser{header: http.Header{"If-None-Match": {page.Header.Get("Etag")}}}); r.Status != 304 {
		t.Errorf("unchanged: %d", r.Status)
	}
}

// TestRestIsTheAPIs: what is not the console's is answered as without it.
func TestRestIsTheAPIs(t *testing.T) {
	url := served(t)
	for _, path := range []string{"/healthz", "/openapi.json", "/v1/info", "/v1//teams", "//evil.example.com/", "/consolex", "/Console/"} {
		with, without := ask(t, "GET", url+path, "", browser{}), ask(t, "GET", plane.AdminURL+path, "", browser{})
		if with.Status != without.Status || with.Body != without.Body || with.Header.Get("Location") != "" {
			t.Errorf("%s: %d %s, and without the console %d %s", path, with.Status, with.Body, without.Status, without.Body)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		if r := ask(t, method, url+"/", "", browser{}); r.Status != 404 {
			t.Errorf("%s /: %d", method, r.Status)
		}
	}
}

// TestRedirectsNowhereElse: nothing that is sent decides where a browser is led.
func TestRedirectsNowhereElse(t *testing.T) {
	url := served(t)
	for _, path := range []string{"/?next=https://evil.example.com/", "/console?return_to=//evil.example.com", "/console/?x=y", "/console/authorized?code=x&state=y&redirect_uri=https://evil.example.com/", "/console//evil.example.com/", "/console/%2f%2fevil.example.com", "/console/..//evil.example.com"} {
		if r := ask(t, "GET", url+path, "", browser{}); r.Header.Get("Location") != "" && r.Header.Get("Location") != "/console/" {
			t.Errorf("%s leads to %q", path, r.Header.Get("Location"))
		}
	}
}

// TestNamesThatAreNotOurs: a name that is led here for a while (DNS rebinding) shows no
// console.
func TestNamesThatAreNotOurs(t *testing.T) {
	url := served(t)
	address := strings.TrimPrefix(url, "http://")
	_, port, _ := strings.Cut(address, ":")
	for host, ours := range map[string]bool{
		address: true, "localhost:" + port: true, "LOCALHOST": true, "[::1]:" + port: true, "10.1.2.3": true,
		"evil.example.com": false, "evil.example.com:" + port: false, "127.0.0.1.evil.example.com": false, "localhost.evil.example.com": false,
		"evil.localhost": false, "0x7f000001": false, "2130706433": false, "127.1": false, "console.example.com": false,
	} {
		for _, path := range []string{"/", "/console/", "/console/v1/info", "/console/session"} {
			r := ask(t, "GET", url+path, "", browser{header: http.Header{"Host": {host}}})
			if (r.Status == 421) == ours {
				t.Errorf("%s%s: %d", host, path, r.Status)
			}
		}
	}
	named, err := console.New(plane.Admin, "https://console.example.com:8443")
	if err != nil {
		t.Fatal(err)
	}
	for host, status := range map[string]int{"console.example.com:8443": 200, "Console.Example.com:8443": 200, "console.example.com": 421, "evil.example.com": 421} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/console/", nil)
		r.Host = host
		if named.ServeHTTP(w, r); w.Code != status {
			t.Errorf("%s: %d", host, w.Code)
		}
	}
	server := httptest.NewTLSServer(named)
	t.Cleanup(server.Close)
	for host, status := range map[string]int{"example.com": 200, "evil.example.com": 421} { // the certificate is for example.com
		client := server.Client()
		r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/console/", nil)
		if err != nil {
			t.Fatal(err)
		}
		client.Transport.(*http.Transport).TLSClientConfig.ServerName = "example.com"
		r.Host = host
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != status {
			t.Errorf("by TLS for example.com, as %s: %d", host, answer.StatusCode)
		}
	}
}

// TestURLs: where browsers find it is one place, by TLS or on this machine.
func TestURLs(t *testing.T) {
	for text, redirect := range map[string]string{
		"https://console.example.com":  "https://console.example.com/console/callback",
		"https://10.0.0.1:8200/":       "https://10.0.0.1:8200/console/callback",
		"http://127.0.0.1:8200":        "http://127.0.0.1:8200/console/callback",
		"http://localhost:8200":        "http://localhost:8200/console/callback",
		"http://console.example.com":   "",
		"https://u:p@x.example.com":    "",
		"https://x.example.com/path":   "",
		"https://x.example.com?q=1":    "",
		"javascript://x.example.com/":  "",
		"x.example.com":                "",
		"http://127.0.0.1.example.com": "",
	} {
		if got, err := console.RedirectURL(text); got != redirect || (err == nil) != (redirect != "") {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

// sinks are what could make markup, script or style of text.
var sinks = regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|setHTML|DOMParser|srcdoc|\beval\(|new Function|\.style\b|javascript:|https?://[a-z][a-z0-9.-]*`)

// TestFilesAreOurs: the console's files load nothing from elsewhere, and make elements by
// name and text alone.
func TestFilesAreOurs(t *testing.T) {
	files := os.DirFS("static")
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		for _, found := range sinks.FindAllString(strings.ReplaceAll(string(text), "http://www.w3.org/2000/svg", ""), -1) {
			// Examples in forms, of addresses that nobody is led to.
			if !slices.Contains([]string{"https://api.example.com", "https://vault.example.com", "https://mcp.example.com"}, found) {
				t.Errorf("%s has %q", name, found)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
