package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Its memory holds the key: no core dump, and no other process of its user.
func TestHardened(t *testing.T) {
	p := serve(t, filepath.Join(t.TempDir(), "new"))
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if fields := strings.Fields(line(string(limits), "Max core file size")); len(fields) < 6 || fields[4] != "0" || fields[5] != "0" {
		t.Errorf("core dumps: %q", fields)
	}
	if err := harden(); err != nil {
		t.Fatal(err)
	}
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
		t.Errorf("dumpable: %d, %v", dumpable, err)
	}
}

func line(text, prefix string) string {
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, prefix) {
			return l
		}
	}
	return ""
}
