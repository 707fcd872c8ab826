package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sallyport/control"
)

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

func TestSecretIsReadExactly(t *testing.T) {
	f := newWhoControl(t)
	env := map[string]string{"SALLYPORT_SERVER": f.URL, "SALLYPORT_TOKEN": "t"}
	for text, want := range map[string]string{
		canary: canary, canary + "\n": canary, canary + "\r\n": canary, canary + " ": canary + " ",
		" " + canary + "\t\n": " " + canary + "\t", "é<&>" + canary + "\n": "é<&>" + canary,
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
	const path = "/\x1b[2J\a\u009b1m\u202e\u200b\U000e0041\x7fé x"
	f := newWhoControl(t)
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"items": []control.Event{{Kind: "request", Host: "api.example.com", Method: "GET\n", Path: path}}})
	})
	env := map[string]string{"SALLYPORT_SERVER": f.URL, "SALLYPORT_TOKEN": "t"}
	table, text := call(t, env, "", "audit", "list"), call(t, env, "", "audit", "list", "-o", "json")
	for _, o := range []outcome{table, text} {
		if o.status != 0 || strings.ContainsAny(o.stdout, "\x1b\a\u009b\u202e\u200b\U000e0041\x7f") {
			t.Errorf("%+v %q", o, o.stdout)
		}
	}
	if want := `GET\n api.example.com/\x1b[2J\a\u009b1m\u202e\u200b\U000e0041\x7fé x`; !strings.Contains(table.stdout, want) || strings.Count(table.stdout, "\n") != 2 {
		t.Errorf("%q, want %s in it", table.stdout, want)
	}
	var events []control.Event
	if err := json.Unmarshal([]byte(text.stdout), &events); err != nil || events[0].Path != path {
		t.Errorf("%v %s, want the path as it was", err, text.stdout)
	}
}
