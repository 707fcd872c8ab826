package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/e2e"
)

// TestDemo runs what make demo runs and looks at what it claims. The demo checks
// itself and ends with status 1 when a claim does not hold.
func TestDemo(t *testing.T) {
	e2e.LeavesNothing(t)
	demo := exec.Command("make", "--no-print-directory", "demo")
	demo.Dir = ".."
	demo.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GOFLAGS=") }) // nobody has any
	demo.WaitDelay = time.Second
	output, err := demo.CombinedOutput()
	if err != nil {
		t.Fatalf("make demo: %v\n%s", err, output)
	}
	for _, claim := range []string{
		"✓ curl, Python requests and the stripe SDK were answered, with the placeholder vault:stripe for a key",
		"✓ the key is in no environment, no argument, no memory, no file",
		"✓ the search works",
		"✓ refused",
		"✓ the upstream saw the new key",
		"namespaces are gone",
	} {
		if !strings.Contains(string(output), claim) {
			t.Errorf("the demo does not say %q:\n%s", claim, output)
		}
	}
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), "sallyport-demo.*")); err != nil || len(left) > 0 {
		t.Errorf("the demo left %v (%v)", left, err)
	}
}
