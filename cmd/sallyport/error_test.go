package main

import (
	"errors"
	"strings"
	"testing"
)

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
		{add + "--inject default:" + canary, "want default:NAME: TEXT", 2},
		{add + "--inject default:Host:" + canary, "frames or routes", 2},
		{add + "--inject default:X-Version:{{token}}" + canary, "holds no {{token}}", 2},
		{add + "--inject default:X-Version:" + canary, "no rule has {{token}}", 2},
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
		{"audit export --since 1h --until 2h", "--until is not after --since", 2},
		{"vault list --team=", "--team: is given, and empty", 2},
		{"vault list --server=", "--server: is given, and empty", 2},
		{"vault list --token-file=", "--token-file: is given, and empty", 2},
		{"vault list --ca-file=", "--ca-file: is given, and empty", 2},
		{"token create n --role viewer --expires 0s", "--expires is a time above 0", 2},
		{"token rotate n --expires 0s", "--expires and --overlap are times above 0", 2},
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
		{"credential add --name n --host h", "missing flags: --vault=VAULT", 2},
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
