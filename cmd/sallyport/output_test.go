package main

import (
	"bufio"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// TestTableFitsTheTerminal: there, cells are cut that are too wide, but not what a row is
// called; anywhere else nothing is.
func TestTableFitsTheTerminal(t *testing.T) {
	const id = "01a2233b-fada-721e-8168-02c71e77022b"
	long := strings.Repeat("api.example.com,", 20)
	rows := func(s string) []string { return []string{id, s, "v1", ""} }
	for _, columns := range []uint16{200, 80, 40} {
		shown, written := terminal(t)
		if err := unix.IoctlSetWinsize(int(shown.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
			t.Fatal(err)
		}
		c := &cli{stdout: written, flags: &grammar{}}
		if err := printList(c, []string{long, "short"}, "ID HOSTS VERSION DUE", rows); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(shown)
		for _, want := range []string{"ID", id, id} {
			if !lines.Scan() {
				t.Fatal(lines.Err())
			}
			line := strings.TrimRight(lines.Text(), "\r")
			if !strings.HasPrefix(line, want) {
				t.Errorf("%d columns: %q", columns, line)
			}
			if n := utf8.RuneCountInString(line); columns >= 80 && n > int(columns) {
				t.Errorf("%d columns: a line of %d: %q", columns, n, line)
			}
			if strings.Contains(line, "api.") != strings.Contains(line, "…") {
				t.Errorf("%d columns: %q", columns, line)
			}
		}
	}
	var whole strings.Builder
	c := &cli{stdout: &whole, flags: &grammar{}}
	if err := printList(c, []string{long}, "ID HOSTS VERSION DUE", rows); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(whole.String(), long) {
		t.Errorf("in a pipe: %q", whole.String())
	}
}
