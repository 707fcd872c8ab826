package e2e_test

import (
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"sallyport/e2e"
)

const token = "bind-token-0123456789abcdef"

// TestRules sends one request for each kind of rule, with a key of the agent's
// own wherever a client may put one, and looks at what arrives.
func TestRules(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+token))
	tests := []struct {
		name    string
		flags   []string
		request []string // curl's arguments
		want    e2e.Seen // only what is set is compared
	}{
		{"bearer", []string{"--inject", "bearer"}, []string{"-H", "Authorization: Bearer own", "https://HOST/bearer"},
			e2e.Seen{Authorization: "Bearer " + token, URI: "/bearer"}},
		{"headers", []string{"--inject", "header:X-Api-Key: {{token}}", "--inject", "header:Anthropic-Version: 2023-06-01"},
			[]string{"-H", "x_api_key: own", "-H", "x-api-key: own", "https://HOST/headers"},
			e2e.Seen{APIKey: token, Version: "2023-06-01", URI: "/headers"}},
		{"query", []string{"--inject", "query:key"}, []string{"https://HOST/query?a=1;b=%zz&key=own&k%65y=own&c=%2F+"},
			e2e.Seen{URI: "/query?a=1;b=%zz&c=%2F+&key=" + token}},
		{"path", []string{"--inject", "path:/bot{{token}}/{{path}}"}, []string{"https://HOST/path?x=1"},
			e2e.Seen{URI: "/bot" + token + "/path?x=1"}},
		{"basic", []string{"--inject", "basic", "--auth", "basic", "--username", "user"}, []string{"-u", "own:own", "https://HOST/basic"},
			e2e.Seen{Authorization: basic, URI: "/basic"}},
		{"wildcard", []string{"--inject", "bearer", "--host", "*.example.test"}, []string{"https://other.example.test/wildcard"},
			e2e.Seen{Authorization: "Bearer " + token, URI: "/wildcard"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := w.In(t)
			flags := tt.flags
			if tt.name != "wildcard" {
				flags = append(flags, "--host", e2e.EchoHost)
			}
			w.Pinned(tt.name, token, flags...)
			command := []string{"curl", "-sS", "-g", "-w", "\n%{http_code}"}
			for _, arg := range tt.request {
				command = append(command, strings.Replace(arg, "HOST", e2e.EchoHost, 1))
			}
			out := w.Run(tt.name, command...)
			if !strings.HasSuffix(out, "\n200") || strings.Contains(out, token) {
				t.Errorf("curl printed\n%s", out)
			}
			seen := w.Nginx.Seen(tt.name)[0]
			if seen.URI != tt.want.URI || seen.Authorization != tt.want.Authorization || seen.APIKey != tt.want.APIKey || seen.Version != tt.want.Version {
				t.Errorf("upstream saw %+v\nwant %+v", seen, tt.want)
			}
		})
	}
}

// TestMostSpecificWins pins an exact host and a wildcard that both serve it.
func TestMostSpecificWins(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.Pinned("agent", "wide-token-0123456789", "--host", "*.example.test", "--inject", "bearer")
	w.Credential("agent", "exact", "exact-token-0123456789", "--host", e2e.EchoHost, "--inject", "bearer")
	w.Run("agent", "curl", "-sS", "https://"+e2e.EchoHost+"/exact", "https://"+e2e.OtherHost+"/wide")
	if got := w.Nginx.Seen("/exact")[0].Authorization; got != "Bearer exact-token-0123456789" {
		t.Errorf("the exact host got %q", got)
	}
	if got := w.Nginx.Seen("/wide")[0].Authorization; got != "Bearer wide-token-0123456789" {
		t.Errorf("the other host got %q", got)
	}
}

// TestTie: two pinned vaults for one host are refused when the second is pinned.
func TestTie(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.Pinned("one", token, "--host", e2e.EchoHost, "--inject", "bearer")
	w.CLI("vault", "create", "two")
	w.Credential("two", "two", token, "--host", e2e.EchoHost, "--inject", "bearer")
	r := w.TryCLI("", "agent", "pin", "one", "two")
	if r.Status == 0 || !strings.Contains(r.Stderr, "one") || !strings.Contains(r.Stderr, "two") || !strings.Contains(r.Stderr, e2e.EchoHost) {
		t.Errorf("status %d, want a refusal that names both credentials and the host:\n%s", r.Status, r.Stderr)
	}
}

// TestSteering tries to have the credential sent to another host.
func TestSteering(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.Pinned("agent", token, "--host", e2e.EchoHost, "--inject", "bearer")
	tests := []struct {
		name    string
		request []string
		status  int
	}{
		{"other-host-header", []string{"--http1.1", "-H", "Host: " + e2e.PublicHost, "https://" + e2e.EchoHost}, http.StatusMisdirectedRequest},
		{"other-authority", []string{"--http2", "-H", "Host: " + e2e.PublicHost, "https://" + e2e.EchoHost}, http.StatusMisdirectedRequest},
		{"bound-host-header", []string{"--http1.1", "-H", "Host: " + e2e.EchoHost, "https://" + e2e.PublicHost}, http.StatusMisdirectedRequest},
		{"false-address", []string{"--resolve", e2e.PublicHost + ":443:192.0.2.1", "https://" + e2e.PublicHost}, http.StatusOK},
		{"unbound", []string{"https://" + e2e.PublicHost}, http.StatusOK},
		{"trace", []string{"-X", "TRACE", "https://" + e2e.EchoHost}, http.StatusMethodNotAllowed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := w.In(t)
			last := len(tt.request) - 1
			command := append([]string{"curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}"}, tt.request[:last]...)
			out := w.Run("agent", append(command, tt.request[last]+"/"+tt.name)...)
			if out != strconv.Itoa(tt.status) {
				t.Errorf("curl got %s, want %d", out, tt.status)
			}
			if tt.status != http.StatusOK {
				w.Nginx.SeenNone("/" + tt.name)
				return
			}
			if seen := w.Nginx.Seen("/" + tt.name)[0]; seen.Authorization != "" || seen.Host != e2e.PublicHost {
				t.Errorf("%s was sent %q", seen.Host, seen.Authorization)
			}
		})
	}
}

// TestStray sends the placeholder where nothing is injected.
func TestStray(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.Pinned("agent", token, "--host", e2e.EchoHost, "--inject", "bearer")
	w.Credential("agent", "literal", token, "--host", e2e.OtherHost, "--inject", "bearer", "--stray", "literal")
	tests := []struct {
		name    string
		request []string
		status  int
	}{
		{"in-url", []string{"https://" + e2e.EchoHost + "/in-url?q=vault:agent"}, http.StatusBadRequest},
		{"in-url-encoded", []string{"https://" + e2e.EchoHost + "/in-url-encoded?q=vault%3Aagent"}, http.StatusBadRequest},
		{"in-header", []string{"-H", "X-Note: vault:agent", "https://" + e2e.EchoHost + "/in-header"}, http.StatusBadRequest},
		{"body-blocked", []string{"-d", "text=vault:agent", "https://" + e2e.EchoHost + "/body-blocked"}, http.StatusBadRequest},
		{"body-elsewhere", []string{"-d", "text=vault:agent", "https://" + e2e.PublicHost + "/body-elsewhere"}, http.StatusBadRequest},
		{"body-literal", []string{"-d", "text=vault:agent", "https://" + e2e.OtherHost + "/body-literal"}, http.StatusOK},
		{"body-model", []string{"-d", "text=vault:agent", "https://" + e2e.ModelHost + "/body-model"}, http.StatusOK},
		{"bare-word", []string{"-d", "text=vault: is a word", "https://" + e2e.EchoHost + "/body-bare-word"}, http.StatusOK},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := w.In(t)
			out := w.Run("agent", append([]string{"curl", "-sS", "-D", "-", "-o", "/dev/null", "-w", "%{http_code}"}, tt.request...)...)
			if !strings.HasSuffix(out, strconv.Itoa(tt.status)) {
				t.Errorf("curl printed, want %d:\n%s", tt.status, out)
			}
			if blocked := strings.Contains(strings.ToLower(out), "sallyport-error: stray_placeholder"); blocked != (tt.status == http.StatusBadRequest) {
				t.Errorf("curl printed\n%s", out)
			}
			if tt.status == http.StatusOK {
				if seen := w.Nginx.Seen(tt.name)[0]; !strings.Contains(seen.Body, "vault:") {
					t.Errorf("the body arrived as %q", seen.Body)
				}
				return
			}
			for _, seen := range w.Nginx.SeenSoFar(tt.name) {
				if strings.Contains(seen.Body+seen.URI, "vault") {
					t.Errorf("the placeholder arrived upstream: %+v", seen)
				}
			}
		})
	}
}

// TestStrayRedacted masks the placeholder on its way, wherever it stands, and
// leaves all else as it was.
func TestStrayRedacted(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.Pinned("mask", token, "--host", e2e.EchoHost, "--inject", "bearer", "--stray", "redact")
	w.Run("mask", "curl", "-sS", "-f", "-d", "text=vault:mask&rest=1", "https://"+e2e.EchoHost+"/body-masked?q=vault%3Amask&x=%zz")
	seen := w.Nginx.Seen("/body-masked")[0]
	if want := "text=" + strings.Repeat("*", len("vault:mask")) + "&rest=1"; seen.Body != want {
		t.Errorf("the body arrived as %q, want %q", seen.Body, want)
	}
	if want := "/body-masked?q=" + strings.Repeat("*", len("vault%3Amask")) + "&x=%zz"; seen.URI != want {
		t.Errorf("the target arrived as %q, want %q", seen.URI, want)
	}
	if seen.Authorization != "Bearer "+token {
		t.Errorf("upstream got %q", seen.Authorization)
	}
}

// TestShortSecret: one that can be guessed is used, and an answer that repeats it is
// kept back.
func TestShortSecret(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	const short = "Tr0ub4dor-3"
	large := strings.Repeat("some words of a long answer, ", 1<<15)
	w.OriginServer("short.example.test", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		switch r.URL.Path {
		case "/body":
			io.WriteString(rw, "your key is "+key)
		case "/redirect":
			http.Redirect(rw, r, "/?key="+key, http.StatusFound)
		case "/large":
			io.WriteString(rw, large+key)
		default:
			io.WriteString(rw, "known: "+strconv.FormatBool(key == short))
		}
	}))
	w.Pinned("agent", short, "--host", "short.example.test", "--inject", "bearer")
	for path, want := range map[string]string{"/": "known: true", "/body": `"code":"reflected"`, "/redirect": `"code":"reflected"`} {
		if out := w.Run("agent", "curl", "-sS", "https://short.example.test"+path); !strings.Contains(out, want) {
			t.Errorf("%s: curl printed %s", path, out)
		}
	}
	if r := w.TryRun("agent", "curl", "-sS", "https://short.example.test/large"); r.Status == 0 || strings.Contains(r.Stdout, short) || !strings.HasPrefix(large, r.Stdout) {
		t.Errorf("curl ended with %d after %d bytes", r.Status, len(r.Stdout))
	}
	reasons := make(map[string]string)
	for _, e := range auditOf(t, w) {
		reasons[e.Path] = e.Reason
	}
	if reasons["/"] != "" || reasons["/body"] != "reflected" || reasons["/large"] != "reflected" {
		t.Errorf("audit has %v", reasons)
	}
}
