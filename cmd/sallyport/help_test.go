package main

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The help of every command, in one file to be read and reviewed.
func TestHelp(t *testing.T) {
	t.Setenv("COLUMNS", "100")
	parser, err := kong.New(&grammar{}, kong.Name("sallyport"), kong.NoDefaultHelp(), variables())
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

func TestEveryCommandIsDescribed(t *testing.T) {
	page, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	parser, err := kong.New(&grammar{}, kong.Name("sallyport"), kong.NoDefaultHelp(), variables())
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range parser.Model.Leaves(true) {
		if !strings.Contains(string(page), "`"+leaf.FullPath()) {
			t.Errorf("docs/cli.md has no example of %q", leaf.FullPath())
		}
		for _, flags := range leaf.AllFlags(true) {
			for _, flag := range flags {
				if flag.Name != "help" && flag.Name != "output" && !strings.Contains(string(page), "--"+flag.Name) {
					t.Errorf("docs/cli.md does not mention --%s of %q", flag.Name, leaf.FullPath())
				}
			}
		}
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
