package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A container that puts a link in the way of its CA's file has nothing written elsewhere.
func TestCAOutFollowsNoLink(t *testing.T) {
	container, machine := t.TempDir(), t.TempDir()
	precious := filepath.Join(machine, "ca.pem")
	if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(machine, filepath.Join(container, "ssl")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(precious, filepath.Join(container, "link.pem")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(container, "ssl", "ca.pem"), filepath.Join("/proc/self/root", machine, "ca.pem")} {
		if err := writeWhole(path, []byte("CA")); err == nil || !strings.Contains(err.Error(), "symbolic link") {
			t.Errorf("%s: %v", path, err)
		}
	}
	link := filepath.Join(container, "link.pem") // which is replaced, not followed
	if err := writeWhole(link, []byte("CA")); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(link); string(got) != "CA" || err != nil {
		t.Errorf("the file has %q, %v", got, err)
	}
	if got, err := os.ReadFile(precious); string(got) != "precious" || err != nil {
		t.Errorf("the machine's file has %q, %v", got, err)
	}
	if left, _ := filepath.Glob(filepath.Join(container, "*.pem.*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
