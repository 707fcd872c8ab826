package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	oidc "sallyport/control/controltest/issuer"
)

var formID = regexp.MustCompile(`name="id" value="([^"]+)"`)

// browse is a person in a browser, who opens the address and logs in. It gives what
// the last page says.
func browse(t *testing.T, address, issuer, user string) string {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	page := func(r *http.Response, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	form := formID.FindStringSubmatch(page(browser.Get(address)))
	if form == nil {
		t.Fatal("the issuer shows no form")
	}
	return page(browser.PostForm(issuer+"login/username", url.Values{"id": form[1:], "username": {user}, "password": {"verysecure"}}))
}

// logIn runs "sallyport login" while do acts on the address that it prints.
func logIn(t *testing.T, env map[string]string, do func(address string)) outcome {
	t.Helper()
	said, stderr := io.Pipe()
	var stdout strings.Builder
	status := make(chan int, 1)
	go func() {
		status <- run(t.Context(), []string{"login", "--browser"}, func(name string) string { return env[name] }, strings.NewReader(""), &stdout, stderr)
		stderr.Close()
	}()
	var all strings.Builder
	for lines := bufio.NewScanner(said); lines.Scan(); {
		all.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "http") {
			do(lines.Text())
		}
	}
	return outcome{<-status, stdout.String(), all.String()}
}

// TestPeopleLogIn goes all the way with a real issuer, control plane and database.
func TestPeopleLogIn(t *testing.T) {
	issuer := oidc.Start(t, "http://127.0.0.1/callback")
	server, data := startControl(t, "--oidc-issuer", issuer, "--oidc-client-id", "native", "--oidc-domain", "example.com",
		"--oidc-groups-claim", "preferred_username", "--oidc-role", "alice=default:admin", "--oidc-role", "trent=*:owner")
	home := t.TempDir()
	env := map[string]string{"HOME": home, "SALLYPORT_SERVER": server}
	var address string
	as := func(user string) outcome {
		return logIn(t, env, func(a string) { address = a; browse(t, a, issuer, user) })
	}
	if o := as("mallory"); o.status != 1 || !strings.Contains(o.stderr, "mallory@example.com is in no group that has a role here") {
		t.Errorf("without a group: %+v", o)
	}
	if o := as("trent"); o.status != 1 || !strings.Contains(o.stderr, "has not verified your email address") {
		t.Errorf("without a verified address: %+v", o)
	}
	o := as("alice")
	if o.status != 0 || !strings.Contains(o.stdout, "as alice@example.com (admin:default)") || strings.Contains(o.stdout+o.stderr, "sp_session_") {
		t.Fatalf("login: %+v", o)
	}
	for _, part := range []string{"code_challenge_method=S256", "nonce=", "state=", "redirect_uri=http%3A%2F%2F127.0.0.1%3A"} {
		if !strings.Contains(address, part) {
			t.Errorf("%s has no %s", address, part)
		}
	}
	must := func(want string, args ...string) string {
		t.Helper()
		o := call(t, env, "", args...)
		if o.status != 0 || !strings.Contains(o.stdout, want) {
			t.Fatalf("%q: %+v", args, o)
		}
		return o.stdout
	}
	must("you are alice@example.com (admin:default)", "status")
	must("vault mine created", "vault", "create", "mine")
	must("person:alice@example.com/id-alice", "audit", "list")
	if o := call(t, env, "", "token", "list"); o.status != 1 || !strings.Contains(o.stderr, "has the role admin; this needs owner") {
		t.Errorf("more than an admin may: %+v", o)
	}
	if o := call(t, env, "", "team", "create", "another"); o.status != 1 {
		t.Errorf("another team: %+v", o)
	}
	must("alice@example.com", "session", "list")

	// An owner of every team sees the session and ends it.
	owner := map[string]string{"HOME": t.TempDir(), "SALLYPORT_SERVER": server, "SALLYPORT_TOKEN": contents(t, filepath.Join(data, "admin-token"))}
	var sessions []struct{ ID, Email string }
	list := call(t, owner, "", "session", "list", "-o", "json")
	if err := json.Unmarshal([]byte(list.stdout), &sessions); err != nil || len(sessions) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if o := call(t, owner, "", "session", "revoke", sessions[0].ID); o.status != 0 {
		t.Fatalf("%+v", o)
	}
	if o := call(t, env, "", "vault", "list"); o.status != 1 || !strings.Contains(o.stderr, "the session is over: log in again") {
		t.Errorf("after it was revoked: %+v", o)
	}

	// A new login, and out again: what was kept opens nothing.
	if o := as("alice"); o.status != 0 {
		t.Fatalf("%+v", o)
	}
	kept := contents(t, filepath.Join(home, ".config", "sallyport", "config.json"))
	value := regexp.MustCompile(`sp_session_[A-Za-z0-9_-]{43}`).FindString(kept)
	must("the session is ended", "logout")
	if o := call(t, map[string]string{"HOME": t.TempDir(), "SALLYPORT_SERVER": server, "SALLYPORT_TOKEN": value}, "", "vault", "list"); value == "" || o.status != 1 {
		t.Errorf("after logout: %+v", o)
	}
}

// TestLoginTakesNoStrangersAnswer sends the waiting command what pages in the browser
// could: another login's code, no state, two states, another issuer's answer. Only the
// answer to its own question ends the login.
func TestLoginTakesNoStrangersAnswer(t *testing.T) {
	issuer := oidc.Start(t, "http://127.0.0.1/callback")
	server, _ := startControl(t, "--oidc-issuer", issuer, "--oidc-client-id", "native",
		"--oidc-groups-claim", "preferred_username", "--oidc-role", "alice=default:admin", "--oidc-role", "mallory=default:viewer")
	env := map[string]string{"HOME": t.TempDir(), "SALLYPORT_SERVER": server}
	o := logIn(t, env, func(address string) {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		state, back := u.Query().Get("state"), u.Query().Get("redirect_uri")
		for _, tc := range []struct{ method, path, host string }{
			{"GET", "?code=stolen", ""},
			{"GET", "?code=stolen&state=", ""},
			{"GET", "?code=stolen&state=guess", ""},
			{"GET", "?code=stolen&state=" + state + "x", ""},
			{"GET", "?error=access_denied&state=guess", ""},
			{"POST", "?code=stolen&state=" + state, ""},
			{"GET", "/../elsewhere?code=stolen&state=" + state, ""},
			{"GET", "?code=stolen&state=" + state + "&iss=https://evil.example.com", ""},
			{"GET", "?code=stolen&state=" + state, "evil.example.com"}, // DNS rebinding
		} {
			r, err := http.NewRequestWithContext(t.Context(), tc.method, back+tc.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = tc.host
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(answer.Body)
			if answer.Body.Close(); err != nil || answer.StatusCode != 400 || strings.Contains(string(text), "stolen") || answer.Header.Get("Location") != "" {
				t.Errorf("%+v: %d %s, %v", tc, answer.StatusCode, text, err)
			}
		}
		browse(t, address, issuer, "alice")
	})
	if o.status != 0 || !strings.Contains(o.stdout, "as alice@example.com") {
		t.Errorf("%+v", o)
	}
	// Mallory's code in the place of alice's: it is good with the verifier of mallory's login alone.
	stolen := ""
	attack := logIn(t, env, func(address string) {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		other := logIn(t, map[string]string{"HOME": t.TempDir(), "SALLYPORT_SERVER": server}, func(address string) {
			theirs, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			stolen = codeOf(t, address, issuer, "mallory")
			answer(t, theirs.Query().Get("redirect_uri")+"?error=access_denied&state="+theirs.Query().Get("state"))
		})
		if other.status != 1 || !strings.Contains(other.stderr, "access_denied") {
			t.Errorf("a refused login: %+v", other)
		}
		answer(t, u.Query().Get("redirect_uri")+"?code="+url.QueryEscape(stolen)+"&state="+u.Query().Get("state"))
	})
	if attack.status != 1 || stolen == "" || !strings.Contains(attack.stderr, "error:") {
		t.Errorf("another login's code: %+v", attack)
	}
}

// codeOf logs in and keeps the code that the issuer would send back.
func codeOf(t *testing.T, address, issuer, user string) (code string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	// The same question, with an address that answers nothing.
	q := u.Query()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	codes := make(chan string, 1)
	go http.Serve(l, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { codes <- r.URL.Query().Get("code") }))
	q.Set("redirect_uri", "http://"+l.Addr().String()+"/callback")
	u.RawQuery = q.Encode()
	browse(t, u.String(), issuer, user)
	return <-codes
}

func answer(t *testing.T, address string) {
	t.Helper()
	r, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
}

func contents(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
