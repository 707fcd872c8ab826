package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/e2e"
)

// TestCommandLine types every form that the manual promises, in an order in which
// somebody would.
func TestCommandLine(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	secret := filepath.Join(w.Dir, "secret")
	if err := os.WriteFile(secret, []byte(stripeKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		args  string
		stdin string
		want  string // in what is printed
	}{
		{args: "team create research", want: "research"},
		{args: "vault create payments", want: "payments"},
		{args: "credential add --vault payments --name stripe --service stripe --secret-file " + secret, want: "vault:stripe"},
		{args: "credential add --vault payments --name echo --host echo.example.test --host other.example.test --inject bearer --inject query:key --secret-file -", stdin: token, want: "vault:echo"},
		{args: "credential add --vault payments --name git --host git.sallyport.test --auth basic --username me --inject basic --secret-file -", stdin: token, want: "vault:git"},
		{args: "credential list", want: "echo.example.test"},
		{args: "credential rotate --vault payments stripe --secret-file " + secret, want: "version 2"},
		{args: "credential rotate --vault payments echo --secret-file - --wait", stdin: token, want: "version 2"},
		{args: "agent create billing", want: "billing"},
		{args: "agent pin billing payments", want: "pinned"},
		{args: "audit list", want: "agent.pin"},
		{args: "run --agent billing -- echo hello", want: "hello"},
		{args: "agent unpin billing payments", want: "unpinned"},
		{args: "credential rm --vault payments git", want: "removed"},
		{args: "sandbox list -o json", want: "["},
		{args: "--team research vault create notes", want: "notes"},
	}
	for _, step := range steps {
		if out := w.CLIReading(step.stdin, strings.Fields(step.args)...); !strings.Contains(out, step.want) {
			t.Errorf("sallyport %s printed %q, want %q in it", step.args, out, step.want)
		}
	}
	for _, args := range []string{"vault list", "credential list", "agent list", "sandbox list", "audit list"} {
		out := w.CLI(append(strings.Fields(args), "-o", "json")...)
		var list []map[string]any
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Errorf("sallyport %s -o json: %v\n%s", args, err, out)
		}
		if strings.Contains(out, token) || strings.Contains(out, stripeKey) {
			t.Errorf("sallyport %s -o json prints a secret", args)
		}
	}
	before := w.CLI("sandbox", "create", "--agent", "billing")
	var sandboxes []struct{ ID, State string }
	if err := json.Unmarshal([]byte(w.CLI("sandbox", "list", "-o", "json")), &sandboxes); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(before, "sp_join_") || len(sandboxes) == 0 {
		t.Fatalf("sandbox create printed %q; sandbox list: %+v", before, sandboxes)
	}
	for _, sandbox := range sandboxes {
		w.CLI("sandbox", "rm", sandbox.ID)
	}
}

// TestCommandLineMistakes: every mistake is one clear line, and what to do.
func TestCommandLineMistakes(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.CLI("vault", "create", "v")
	for _, tt := range []struct {
		name, args, stdin string
		status            int
		want              string
	}{
		{"the same again", "vault create v", "", 1, "v"},
		{"no such vault", "credential add --vault x --name n --host api.example.com --inject bearer --secret-file -", token, 1, "hint:"},
		{"no such agent", "run --agent nobody -- true", "", 1, "nobody"},
		{"a line break in a secret", "credential add --vault v --name n --host api.example.com --inject bearer --secret-file -", "a\r\nX: y", 1, "line break"},
		{"an address is not a host", "credential add --vault v --name n --host 169.254.169.254 --inject bearer --secret-file -", token, 1, "169.254.169.254"},
		{"a rule without a token", "credential add --vault v --name n --host api.example.com --inject header:X-Y:z --secret-file -", token, 2, "{{token}}"},
		{"a secret as an argument", "credential add --vault v --name n --host api.example.com --secret " + token, "", 2, "error:"},
		{"nothing to run", "run --agent nobody", "", 2, "error:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := w.In(t).TryCLI(tt.stdin, strings.Fields(tt.args)...)
			if r.Status != tt.status || !strings.HasPrefix(r.Stderr, "error: ") || !strings.Contains(r.Stderr, tt.want) {
				t.Errorf("status %d, want %d with %q:\n%s", r.Status, tt.status, tt.want, r.Stderr)
			}
			if strings.Contains(r.Stdout+r.Stderr, token) {
				t.Errorf("the secret is repeated:\n%s", r.Stderr)
			}
		})
	}
}
