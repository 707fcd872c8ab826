package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

const canary = "sk_live_canary51Hx"

// outcome is what one run of the program gave.
type outcome struct {
	status         int
	stdout, stderr string
}

// call runs the program in this process with env as its environment.
func call(t *testing.T, env map[string]string, stdin string, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), args, func(name string) string { return env[name] }, strings.NewReader(stdin), &stdout, &stderr)
	return outcome{status, stdout.String(), stderr.String()}
}

// whoControl is a control plane that tells callers apart by their token and
// keeps the secrets it is given.
type whoControl struct {
	*httptest.Server
	calls   []string // METHOD path token
	secrets []string
}

func newWhoControl(t *testing.T) *whoControl {
	t.Helper()
	f := &whoControl{}
	f.Server = httptest.NewServer(http.HandlerFunc(f.answer))
	t.Cleanup(f.Close)
	return f
}

func (f *whoControl) answer(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	f.calls = append(f.calls, r.Method+" "+r.URL.Path+" "+token)
	if r.Method == http.MethodPost {
		var body struct{ Secret string }
		if err := json.NewDecoder(r.Body).Decode(&body); err == nil {
			f.secrets = append(f.secrets, body.Secret)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.HasSuffix(r.URL.Path, "/info"):
		team, found := strings.CutPrefix(token, "of-")
		if !found {
			team = "acme"
		}
		json.NewEncoder(w).Encode(map[string]string{"version": "v1", "team": team, "role": "admin", "token": "laptop"})
	case r.Method == http.MethodGet:
		io.WriteString(w, `{"items":[]}`)
	default:
		io.WriteString(w, `{"name":"stripe","vault":"payments","hosts":["api.stripe.com"],"version":2}`)
	}
}

func (f *whoControl) last() string {
	if len(f.calls) == 0 {
		return ""
	}
	return f.calls[len(f.calls)-1]
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestWhoIsAskedAndAs(t *testing.T) {
	one, other := newWhoControl(t), newWhoControl(t)
	home, dir := t.TempDir(), t.TempDir()
	file := write(t, filepath.Join(dir, "token"), "of-file\n")
	env := func(more ...string) map[string]string {
		m := map[string]string{"HOME": home}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	if o := call(t, env(), "of-acme\n", "login", "--server", one.URL+"/", "--token-file", "-"); o.status != 0 || !strings.Contains(o.stdout, "as laptop (admin of team acme)") {
		t.Fatalf("login: %+v", o)
	}
	for _, tt := range []struct {
		name string
		env  map[string]string
		args []string
		at   *whoControl
		want string
	}{
		{"login", env(), nil, one, "GET /v1/teams/acme/vaults of-acme"},
		{"token of the environment before login's", env("SALLYPORT_TOKEN", "of-env"), nil, one, "GET /v1/teams/acme/vaults of-env"},
		{"file before the environment", env("SALLYPORT_TOKEN", "of-env"), []string{"--token-file", file}, one, "GET /v1/teams/acme/vaults of-file"},
		{"team of the environment", env("SALLYPORT_TEAM", "blue"), nil, one, "GET /v1/teams/blue/vaults of-acme"},
		{"team flag first", env("SALLYPORT_TEAM", "blue"), []string{"--team", "red"}, one, "GET /v1/teams/red/vaults of-acme"},
		{"server of the environment", env("SALLYPORT_SERVER", other.URL, "SALLYPORT_TOKEN", "of-env"), nil, other, "GET /v1/teams/default/vaults of-env"},
		{"server flag first", env("SALLYPORT_SERVER", other.URL), []string{"--server", one.URL}, one, "GET /v1/teams/acme/vaults of-acme"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.at.calls = nil
			if o := call(t, tt.env, "", append(tt.args, "vault", "list")...); o.status != 0 {
				t.Fatalf("%+v", o)
			}
			if tt.at.last() != tt.want {
				t.Errorf("asked %q, want %q", tt.at.last(), tt.want)
			}
		})
	}
	t.Run("login's token stays with its server", func(t *testing.T) {
		other.calls = nil
		o := call(t, env("SALLYPORT_SERVER", other.URL), "", "vault", "list")
		if o.status != 1 || !strings.Contains(o.stderr, "no API token for "+other.URL) || len(other.calls) != 0 {
			t.Errorf("%+v, calls %q", o, other.calls)
		}
	})
	t.Run("logout", func(t *testing.T) {
		if o := call(t, env(), "", "logout"); o.status != 0 {
			t.Errorf("%+v", o)
		}
		if o := call(t, env(), "", "--server", one.URL, "vault", "list"); o.status != 1 {
			t.Errorf("still logged in: %+v", o)
		}
	})
}

func TestLoginKeepsItsFilePrivate(t *testing.T) {
	f := newWhoControl(t)
	xdg := filepath.Join(t.TempDir(), "config")
	env := map[string]string{"HOME": t.TempDir(), "XDG_CONFIG_HOME": xdg, "SALLYPORT_SERVER": f.URL}
	name := filepath.Join(xdg, "sallyport", "config.json")
	login := func() outcome { return call(t, env, canary, "login", "--token-file", "-") }
	if o := login(); o.status != 0 || strings.Contains(o.stdout+o.stderr, canary) {
		t.Fatalf("login: %+v", o)
	}
	for path, want := range map[string]os.FileMode{name: 0o600, filepath.Dir(name): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %o", path, info.Mode(), err, want)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(name)); err != nil || len(left) != 1 {
		t.Errorf("files left behind: %v, %v", left, err)
	}
	kept, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"open to others", string(kept), 0o644, "open to others"},
		{"cut off", string(kept[:len(kept)/2]), 0o600, "can't be read"},
		{"unknown field", `{"sever":"x","token":"` + canary + `"}`, 0o600, "can't be read"},
		{"empty", "", 0o600, "can't be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			write(t, name, tt.text)
			if err := os.Chmod(name, tt.mode); err != nil {
				t.Fatal(err)
			}
			o := call(t, env, "", "vault", "list")
			if o.status != 1 || !strings.Contains(o.stderr, tt.want) || strings.Contains(o.stderr, canary) {
				t.Errorf("%+v, want an error with %q", o, tt.want)
			}
			if o := login(); o.status != 0 {
				t.Errorf("login does not mend it: %+v", o)
			}
			if o := call(t, env, "", "vault", "list"); o.status != 0 {
				t.Errorf("not mended: %+v", o)
			}
		})
	}
	t.Run("a refused token changes nothing", func(t *testing.T) {
		f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) })
		if o := call(t, env, "another", "login", "--token-file", "-"); o.status != 1 || !strings.Contains(o.stderr, "hint: the token is wrong") {
			t.Errorf("%+v", o)
		}
		if now, err := os.ReadFile(name); err != nil || !bytes.Equal(now, kept) {
			t.Errorf("the configuration changed: %v", err)
		}
	})
}

func TestLoginKeepsTheCA(t *testing.T) {
	f := &whoControl{}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(f.answer))
	f.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // refused handshakes are meant
	f.StartTLS()
	t.Cleanup(f.Close)
	dir := t.TempDir()
	env := map[string]string{"HOME": dir}
	ca := write(t, filepath.Join(dir, "ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})))
	login := []string{"login", "--server", f.URL, "--token-file", "-"}
	if o := call(t, env, canary, login...); o.status != 1 || !strings.Contains(o.stderr, "hint: trust its CA with --ca-file") {
		t.Errorf("%+v", o)
	}
	for name, text := range map[string]string{"none": "", "key": "-----BEGIN PRIVATE KEY-----\n" + canary} {
		file := write(t, filepath.Join(dir, name), text)
		if o := call(t, env, canary, append(login, "--ca-file", file)...); o.status != 1 || strings.Contains(o.stderr, canary) {
			t.Errorf("%s: %+v", name, o)
		}
	}
	if len(f.calls) != 0 {
		t.Fatalf("the token was sent: %q", f.calls)
	}
	if o := call(t, env, canary, append(login, "--ca-file", ca)...); o.status != 0 {
		t.Fatalf("%+v", o)
	}
	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	if o := call(t, env, "", "vault", "list"); o.status != 0 {
		t.Errorf("the CA was not kept: %+v", o)
	}
}

func TestSecretIsReadExactly(t *testing.T) {
	f := newWhoControl(t)
	env := map[string]string{"SALLYPORT_SERVER": f.URL, "SALLYPORT_TOKEN": "t"}
	for text, want := range map[string]string{
		"s": "s", "s\n": "s", "s\r\n": "s", "s ": "s ", " s\t\n": " s\t", "é<&>\n": "é<&>",
	} {
		f.secrets = nil
		file := write(t, filepath.Join(t.TempDir(), "secret"), text)
		add := []string{"credential", "add", "--vault", "v", "--name", "n", "--host", "h.example.com", "--secret-file"}
		rotate := []string{"credential", "rotate", "--vault", "v", "n", "--secret-file"}
		for _, o := range []outcome{
			call(t, env, "", append(add, file)...), call(t, env, text, append(add, "-")...),
			call(t, env, "", append(rotate, file)...), call(t, env, text, append(rotate, "-")...),
		} {
			if o.status != 0 || o.stderr != "" {
				t.Errorf("%q: %+v", text, o)
			}
		}
		if diff := cmp.Diff([]string{want, want, want, want}, f.secrets); diff != "" {
			t.Errorf("%q was sent as: %s", text, diff)
		}
	}
	f.calls = nil
	for text, want := range map[string]string{
		"":                                     "is empty",
		"\n":                                   "is empty",
		canary + "\n\n":                        "control character",
		canary + "\n\r\n":                      "control character",
		canary + "\r":                          "control character",
		canary + "\nX-Evil: 1":                 "control character",
		canary + "\x00":                        "control character",
		canary + "\xff":                        "not UTF-8",
		canary + strings.Repeat("x", 16<<10):   "longer than",
		strings.Repeat("x", 16<<10) + "y\r\n":  "longer than",
		strings.Repeat("x", 100<<10) + canary:  "longer than",
		canary + strings.Repeat("\n", 100<<10): "longer than",
	} {
		o := call(t, env, text, "credential", "rotate", "--vault", "v", "n", "--secret-file", "-")
		if o.status != 1 || !strings.Contains(o.stderr, want) || strings.Contains(o.stdout+o.stderr, canary) {
			t.Errorf("%.40q: %+v, want an error with %q", text, o, want)
		}
	}
	if len(f.calls) != 0 {
		t.Errorf("bad secrets were sent: %q", f.calls)
	}
}

// Somebody will paste a secret where a name, flag or file belongs.
func TestErrorsDoNotRepeatArguments(t *testing.T) {
	f := newWhoControl(t)
	env := map[string]string{"SALLYPORT_SERVER": f.URL, "SALLYPORT_TOKEN": "t", "HOME": t.TempDir()}
	add := "credential add --vault v --name n --host h.example.com --secret-file - "
	for _, tt := range []struct {
		line, want string
		status     int
	}{
		{canary, "unexpected argument", 2},
		{"credential " + canary, "unexpected argument", 2},
		{"credential add " + canary, "unexpected argument", 2},
		{"credential add correcthorse", "unexpected argument", 2},
		{"credential add --secret " + canary, "unknown flag --secret, did you mean", 2},
		{"credential add --secret=" + canary, "unknown flag --secret, did you mean", 2},
		{"credential add --" + canary, "unknown flag (not shown", 2},
		{"credential add -----BEGIN_" + canary, "unknown flag (not shown", 2},
		{"credential add --vault v --name n --host h --secret-file " + canary, "can't open the file", 1},
		{"credential add --vault v --name " + canary + " --host h --secret-file -", "use lower-case letters", 2},
		{add + "--inject " + canary, "inject rule 1 is none of", 2},
		{add + "--inject bearer:" + canary, "inject rule 1 is none of", 2},
		{add + "--inject bearer --inject header:X-Api-Key:{{" + canary + "}}", "inject rule 2: the slots are", 2},
		{add + "--inject header:" + canary, "want header:NAME: TEMPLATE", 2},
		{add + "--inject header:Host:{{token}}" + canary, "frames or routes", 2},
		{add + "--inject header:X-Api-Key:" + canary, "no rule has {{token}}", 2},
		{add + "--inject path:" + canary, "begins with /", 2},
		{add + "--inject path:/" + canary, "once, {{path}}", 2},
		{add + "--inject path:/{{token}}/{{path}}/{{" + canary + "}}", "the slots are", 2},
		{add + "--inject query:a&" + canary, "the parameter's name", 2},
		{add + "--auth " + canary, "--auth must be one of", 2},
		{add + "--stray=" + canary, "--stray must be one of", 2},
		{add + "--allow-http=" + canary, "bool value must be", 2},
		{"credential rotate --vault v n " + canary + " --secret-file -", "unexpected argument", 2},
		{"credential rotate --vault v n --secret-file - --wait=" + canary, "takes a time above 0", 2},
		{"credential rotate --vault v n --secret-file - --wait=-1s", "takes a time above 0", 2},
		{"--token-file " + canary + " team list", "can't open the file", 1},
		{"--output " + canary + " team list", "--output must be one of", 2},
		{"--server http://x:" + canary + "@example.com team list", "no user", 1},
		{"audit list --limit " + canary, "expected a valid", 2},
		{"audit list --limit 0", "a number above 0", 2},
		{"vault create " + canary, "use lower-case letters", 2},
		{"team create " + canary, "use lower-case letters", 2},
		{"agent create " + canary, "use lower-case letters", 2},
		{"token create " + canary + " --role viewer", "use lower-case letters", 2},
		{"token create n --role " + canary, "--role must be one of", 2},
		{"token create n --role viewer --expires " + canary, "expected duration", 2},
		{"credential add --vault v --name n --secret-file -", "needs --service or --host", 2},
		{add + "--service stripe", "--service already says", 2},
		{add + "--auth basic", "needs --username", 2},
		{add + "--auth token --username u", "goes with --auth basic", 2},
		{"credential add --name n --host h", "missing flags: --secret-file=FILE, --vault=VAULT", 2},
		{"vault", `expected one of "create", "list", "rm"`, 2},
		{"agent pin a", "<vault>", 2},
		{"run --agent a", "<cmd>", 2},
		{"run --agent a --", "needs a command", 2},
		{"run -- true", "--agent", 2},
	} {
		o := call(t, env, canary, strings.Fields(tt.line)...)
		if o.status != tt.status || !strings.HasPrefix(o.stderr, "error: ") || !strings.Contains(o.stderr, tt.want) {
			t.Errorf("%s: %+v, want status %d and an error with %q", tt.line, o, tt.status, tt.want)
		}
		for _, secret := range []string{canary, "correcthorse", "canary"} {
			if strings.Contains(o.stdout+o.stderr, secret) {
				t.Errorf("%s repeats %q: %s", tt.line, secret, o.stderr)
			}
		}
	}
	if len(f.calls) != 0 {
		t.Errorf("calls were made: %q", f.calls)
	}
}

// What the parser may say one day, beyond what it says today.
func TestParseErrorHidesEveryValue(t *testing.T) {
	args := []string{"credential", "add", "--vault", "v", "--name=" + canary, "hunter22", "--secret-file", "-"}
	for _, message := range []string{
		"--name: " + canary + " is bad", "bad value \"hunter22\"", "unexpected argument hunter22", "unknown flag --" + canary,
		"unexpected flag argument \"" + canary + "\"", "--name: no but got \"" + canary + "\"",
	} {
		if got := parseError(errors.New(message), args).Error(); strings.Contains(got, canary) || strings.Contains(got, "hunter22") {
			t.Errorf("%q became %q", message, got)
		}
	}
	if got := parseError(errors.New("missing flags: --vault=VAULT"), args).Error(); got != "missing flags: --vault=VAULT" {
		t.Errorf("too much was hidden: %q", got)
	}
}

func TestOpenFilesAreWarnedAbout(t *testing.T) {
	f := newWhoControl(t)
	env := map[string]string{"SALLYPORT_SERVER": f.URL, "SALLYPORT_TOKEN": "t"}
	file := write(t, filepath.Join(t.TempDir(), "secret"), canary)
	for mode, warned := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o644: true} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		o := call(t, env, "", "credential", "rotate", "--vault", "v", "n", "--secret-file", file)
		if o.status != 0 || strings.Contains(o.stderr, "warning: the file of --secret-file is open to others") != warned {
			t.Errorf("mode %o: %+v, want a warning: %v", mode, o, warned)
		}
	}
}

// An agent chooses the paths it asks for; an admin's terminal must not obey them.
func TestTerminalsAreNotSteered(t *testing.T) {
	f := newWhoControl(t)
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"items":[{"kind":"request","host":"api.example.com","method":"GET\n","path":"/\u001b[2J\u0007\u009b1m\u202e\u200bé x"}]}`)
	})
	o := call(t, map[string]string{"SALLYPORT_SERVER": f.URL, "SALLYPORT_TOKEN": "t"}, "", "audit", "list")
	if o.status != 0 || strings.ContainsAny(o.stdout, "\x1b\a\u009b\u202e\u200b") || strings.Count(o.stdout, "\n") != 2 {
		t.Errorf("%+v %q", o, o.stdout)
	}
	if want := `GET\n api.example.com/\x1b[2J\a\u009b1m\u202e\u200bé x`; !strings.Contains(o.stdout, want) {
		t.Errorf("%q, want %s in it", o.stdout, want)
	}
}

// The help of every command, in one file to be read and reviewed.
func TestHelp(t *testing.T) {
	t.Setenv("COLUMNS", "100")
	parser, err := kong.New(&grammar{}, kong.Name("sallyport"), kong.NoDefaultHelp())
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, path := range append([]string{"sallyport"}, commands(parser.Model)...) {
		args := append(strings.Fields(path)[1:], "--help")
		o := call(t, nil, "", args...)
		if o.status != 0 || o.stderr != "" {
			t.Fatalf("%s --help: %+v", path, o)
		}
		all.WriteString("$ " + path + " --help\n" + o.stdout + "\n")
	}
	const golden = "testdata/help.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), all.String()); diff != "" {
		t.Errorf("help changed (go test -update writes it anew):\n%s", diff)
	}
}

// commands are the full paths of all commands, "sallyport team create" and so on.
func commands(model *kong.Application) []string {
	var paths []string
	for _, leaf := range model.Leaves(true) {
		paths = append(paths, leaf.FullPath())
	}
	return paths
}

func TestNoArgumentsAreHelp(t *testing.T) {
	o := call(t, nil, "")
	if o.status != 0 || !strings.HasPrefix(o.stdout, "Usage: sallyport <command>") {
		t.Errorf("%+v", o)
	}
}
