package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func completed(t *testing.T, words ...string) []string {
	t.Helper()
	o := call(t, nil, "", append([]string{completing}, words...)...)
	if o.status != 0 || o.stderr != "" {
		t.Fatalf("%q: %+v", words, o)
	}
	var found []string
	for line := range strings.Lines(o.stdout) {
		word, _, _ := strings.Cut(line, "\t")
		found = append(found, word)
	}
	return found
}

// TestComplete: commands, flags and their fixed values are known; all else is left to the
// shell, and nothing that was typed is said again.
func TestComplete(t *testing.T) {
	for line, want := range map[string][]string{
		"vau":                               {"vault"},
		"vault ":                            {"create", "list", "rm"},
		"--team acme vault c":               {"create"},
		"--team=acme vault c":               {"create"},
		"-o ":                               {"table", "json"},
		"vault list --output j":             {"json"},
		"vault list --output=t":             {"table"},
		"agent policy ":                     {"set", "show"},
		"credential add --stray ":           {"block", "literal", "redact"},
		"credential add --sec":              {"--secret-file"},
		"credential add --allow-http --use": {"--username"},
		"credential rotate --secret-file ":  nil, // a file
		"credential rotate --vault v stripe extra --w": {"--wait"},
		"ca rotate s":           {"stage"},
		"completion ":           {"bash", "zsh", "fish"},
		"run --agent a -- cu":   nil, // the agent's command
		"nothing of that name ": nil,
		"sk_live_0123456789":    nil,
	} {
		found := completed(t, strings.Split(line, " ")...)
		for _, word := range found {
			if strings.Contains(word, "acme") || strings.Contains(word, "sk_live") {
				t.Errorf("%q: %q", line, found)
			}
		}
		if line == "nothing of that name " {
			if !slices.Contains(found, "vault") {
				t.Errorf("%q: %q", line, found)
			}
		} else if !slices.Equal(found, want) {
			t.Errorf("%q becomes %q, want %q", line, found, want)
		}
	}
	if found := completed(t, ""); !slices.Contains(found, "credential") || slices.Contains(found, completing) {
		t.Errorf("at the beginning: %q", found)
	}
}

// TestCompletionOfBash has a bash complete a line.
func TestCompletionOfBash(t *testing.T) {
	bash := exec.Command("bash", "-c", `source <("$1" completion bash); COMP_WORDS=("$1" credential ro); COMP_CWORD=2; _sallyport "$1"; echo "${COMPREPLY[@]}"; complete -p sallyport`, "bash", program(t))
	bash.Env = append(os.Environ(), "HOME="+t.TempDir())
	said, err := bash.CombinedOutput()
	if err != nil || string(said) != "rotate\ncomplete -o default -F _sallyport sallyport\n" {
		t.Errorf("%v: %s", err, said)
	}
}

// program is this test as the program itself.
func program(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("sallyport")
	if err != nil {
		t.Fatal(err)
	}
	return path
}
