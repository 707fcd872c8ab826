package scripts

import (
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"
)

// named is what a tree has of all that pages may name.
type named struct {
	tree     fs.FS
	tests    map[string][]string // package to functions of its tests
	commands map[string]string   // as "sallyport team create", each with its help, if that is known
	flags    map[string]string   // each program's
	metrics  []string
	codes    []string        // errors that a sidecar answers or resets with
	literals map[string]bool // every text in the sidecar's source that could be such a code
	targets  map[string]bool // of make
}

// foreignFlags are flags of other programs that pages name by themselves.
var foreignFlags = map[string]bool{
	"no-sandbox": true, // Chromium
	"network":    true, // podman
}

var (
	plain       = regexp.MustCompile(`^[a-z][a-z-]+$`)
	quoted      = regexp.MustCompile(`'[^']*'|"[^"]*"`)
	testFunc    = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	commandType = regexp.MustCompile(`(?m)^type (\w+)Cmd struct`)
	flagField   = regexp.MustCompile("(?m)^\\s+([A-Z]\\w*) +\\S+ +`([^`]*help:.*)`$")
	flagRename  = regexp.MustCompile(`name:"([a-z-]+)"`)
	upper       = regexp.MustCompile(`([a-z])([A-Z])`)
	metricName  = regexp.MustCompile(`"(sallyport_\w+)"`)
	anyLiteral  = regexp.MustCompile(`"([a-z]+(?:_[a-z0-9]+)*)"`)
	errorCode   = regexp.MustCompile(`(?:Code: |Errorf\((?:http\.\w+|\d+), )"([a-z_0-9]+)"`)
	makeLine    = regexp.MustCompile(`^make ([a-z]+)(?:$| [A-Z]+=| &&)`)
	target      = regexp.MustCompile(`(?m)^([a-z]+):`)
)

// collect reads what there is.
func collect(t *testing.T, tree fs.FS) *named {
	t.Helper()
	n := &named{tree: tree, tests: map[string][]string{}, commands: map[string]string{}, flags: map[string]string{}, literals: map[string]bool{}, targets: map[string]bool{}}
	for _, m := range target.FindAllStringSubmatch(mustRead(t, tree, "Makefile"), -1) {
		n.targets[m[1]] = true
	}
	help := mustRead(t, tree, "cmd/sallyport/testdata/help.txt")
	for _, part := range strings.Split("\n"+help, "\n$ ")[1:] {
		command, text, _ := strings.Cut(part, " --help\n")
		n.commands[command] = text
	}
	n.flags["sallyport"] = help
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules"):
			return fs.SkipDir
		case path.Ext(name) == ".go":
			n.collectGo(path.Dir(name), path.Base(name), mustRead(t, tree, name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *named) collectGo(dir, base, text string) {
	if strings.HasSuffix(base, "_test.go") {
		for _, m := range testFunc.FindAllStringSubmatch(text, -1) {
			for _, pkg := range []string{dir, path.Base(dir)} {
				n.tests[pkg] = append(n.tests[pkg], m[1])
			}
		}
		return
	}
	if base == "metrics.go" {
		for _, m := range metricName.FindAllStringSubmatch(text, -1) {
			n.metrics = append(n.metrics, m[1])
		}
	}
	if within(dir, "sidecar") {
		for _, m := range anyLiteral.FindAllStringSubmatch(text, -1) {
			n.literals[m[1]] = true
		}
		for _, m := range errorCode.FindAllStringSubmatch(text, -1) {
			n.codes = append(n.codes, m[1])
		}
	}
	if dir == "cmd/sallyport-control" || dir == "cmd/sallyport-sidecar" {
		n.flags[path.Base(dir)] += flagsOf(text)
		for _, m := range commandType.FindAllStringSubmatch(text, -1) {
			n.commands[path.Base(dir)+" "+kebab(m[1])] = ""
		}
	}
}

// flagsOf are the flags that fields of a program's commands are, as its help has them.
func flagsOf(text string) string {
	var flags strings.Builder
	for _, m := range flagField.FindAllStringSubmatch(text, -1) {
		name := kebab(m[1])
		if given := flagRename.FindStringSubmatch(m[2]); given != nil {
			name = given[1]
		}
		flags.WriteString("--" + name + "\n")
	}
	return flags.String()
}

// kebab is a field's name as kong makes a flag's or command's of it.
func kebab(name string) string {
	return strings.ToLower(upper.ReplaceAllString(name, "$1-$2"))
}

func mustRead(t *testing.T, tree fs.FS, name string) string {
	t.Helper()
	text, err := fs.ReadFile(tree, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
