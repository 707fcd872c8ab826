package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/sidecar/supervise"
)

func call(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	status = run(t.Context(), args, func(string) string { return "" }, &out, &errs)
	return status, out.String(), errs.String()
}

// A command line that can't work is refused before the join token is used up.
func TestRefusals(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	const secret = "sp_join_canary"
	if err := os.WriteFile(token, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	notPEM := filepath.Join(t.TempDir(), "ca")
	if err := os.WriteFile(notPEM, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := []string{"--control", "https://127.0.0.1:1", "--join-token-file", token}
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"no command", nil, "expected"},
		{"unknown command", []string{"seal"}, "unexpected argument"},
		{"no control", []string{"init", "--join-token-file", token, "--", "true"}, "--control"},
		{"no token", []string{"init", "--control", "https://127.0.0.1:1", "--", "true"}, "--join-token-file"},
		{"no agent", append([]string{"init"}, good...), "cmd"},
		{"no agent after the dashes", append(append([]string{"init"}, good...), "--"), "command after --"},
		{"empty command", append(append([]string{"init"}, good...), "--", ""), "empty word"},
		{"plain control", []string{"init", "--control", "http://127.0.0.1:1", "--join-token-file", token, "--", "true"}, "https://"},
		{"missing CA", append(append([]string{"init"}, good...), "--upstream-ca", "/no/such/ca", "--", "true"), "--upstream-ca"},
		{"malformed CA", append(append([]string{"init"}, good...), "--upstream-ca", notPEM, "--", "true"), "no certificate"},
		{"share nothing", append(append([]string{"init"}, good...), "--share", "/no/such/file", "--", "true"), "--share"},
		{"share everything", append(append([]string{"init"}, good...), "--share", "/tmp/", "--", "true"), "name what it needs"},
		{"metrics nowhere", append(append([]string{"init"}, good...), "--metrics-listen", "192.0.2.1:1", "--", "true"), "--metrics-listen"},
		{"log level", append(append([]string{"init"}, good...), "--log-level", "loud", "--", "true"), "log-level"},
		{"missing namespace", append(append([]string{"init"}, good...), "--netns", "/no/such/netns", "--", "true"), "/no/such/netns"},
		{"attach to nothing", append([]string{"attach"}, good...), "--netns"},
		{"attach twice", append(append([]string{"attach"}, good...), "--netns", "/x", "--pid", "1"), "--netns"},
		{"attach to no process", append(append([]string{"attach"}, good...), "--pid", "4194305"), "4194305"},
		{"worker by hand", []string{"worker", "extra"}, "unexpected argument"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, stdout, stderr := call(t, test.args...)
			if status != supervise.ExitFailure || stdout != "" || !strings.HasPrefix(stderr, "error: ") || !strings.Contains(stderr, test.want) {
				t.Errorf("exit status %d, %q, %q; want %q", status, stdout, stderr, test.want)
			}
			if b, err := os.ReadFile(token); err != nil || string(b) != secret {
				t.Errorf("the join token is gone: %v", err)
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	if status, stdout, stderr := call(t, "version"); status != 0 || !strings.HasPrefix(stdout, name+" ") || stderr != "" {
		t.Errorf("version: exit status %d, %q, %q", status, stdout, stderr)
	}
	status, stdout, stderr := call(t, "init", "--help")
	if status != 0 || stderr != "" {
		t.Errorf("help: exit status %d, %q", status, stderr)
	}
	for _, flag := range []string{"--control", "--join-token-file", "--upstream-ca", "--connect-to", "--metrics-listen", "--netns", "--log-level"} {
		if !strings.Contains(stdout, flag) {
			t.Errorf("help does not tell of %s", flag)
		}
	}
	if strings.Contains(stdout, "worker") && strings.Contains(stdout, "stage") {
		t.Error("help tells of commands that are not for people")
	}
}

func TestWriteWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ca.pem")
	for _, content := range []string{"one", "another"} {
		if err := writeWhole(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if b, err := os.ReadFile(path); string(b) != content {
			t.Errorf("%q, %v", b, err)
		}
	}
	if err := writeWhole(filepath.Join(dir, "no", "ca.pem"), nil); err == nil {
		t.Error("written to nowhere")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v were left, %v", entries, err)
	}
}
