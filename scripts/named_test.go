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
	tests    map[string][]string        // package to functions of its tests
	commands map[string]map[string]bool // as "sallyport team create", each with its flags, if they are known
	flags    map[string]map[string]bool // each program's
	metrics  []string
	codes    []string        // errors that a sidecar answers or resets with
	sidecar  string          // its source
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
	testFunc    = regexp.MustCompile(`^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	helpFlag    = regexp.MustCompile(`--(\[no-\])?([a-z][a-z-]*)`)
	commandType = regexp.MustCompile(`(?m)^type (\w+)Cmd struct`)
	flagField   = regexp.MustCompile("(?m)^\\s+([A-Z]\\w*) +\\S+ +`([^`]*help:.*)`$")
	flagRename  = regexp.MustCompile(`name:"([a-z-]+)"`)
	upper       = regexp.MustCompile(`([a-z])([A-Z])`)
	metricName  = regexp.MustCompile(`"(sallyport_\w+)"`)
	errorCode   = regexp.MustCompile(`(?:Code: |Errorf\((?:http\.\w+|\d+), )"([a-z_0-9]+)"`)
	makeLine    = regexp.MustCompile(`^make ([a-z]+)(?:$| [A-Z]+=| &&)`)
	// HashiCorp's program has the name of a group of ours.
	vaultLine = regexp.MustCompile(`^vault (agent|auth|policy|read|secrets|write)\b`)
	target    = regexp.MustCompile(`(?m)^([a-z]+):`)
)

// collect reads what there is.
func collect(t *testing.T, tree fs.FS) *named {
	t.Helper()
	n := &named{tree: tree, tests: map[string][]string{}, commands: map[string]map[string]bool{}, flags: map[string]map[string]bool{}, targets: map[string]bool{}}
	for _, m := range target.FindAllStringSubmatch(mustRead(t, tree, "Makefile"), -1) {
		n.targets[m[1]] = true
	}
	help := mustRead(t, tree, "cmd/sallyport/testdata/help.txt")
	for _, part := range strings.Split("\n"+help, "\n$ ")[1:] {
		command, text, _ := strings.Cut(part, " --help\n")
		if strings.Contains(command, " ") { // else it is the program's own help
			n.commands[command] = flagsOfHelp(text)
		}
	}
	n.flags["sallyport"] = flagsOfHelp(help)
	var sidecar strings.Builder
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules"):
			return fs.SkipDir
		case path.Ext(name) == ".go":
			text := mustRead(t, tree, name)
			n.collectGo(path.Dir(name), path.Base(name), text)
			if within(name, "sidecar") && !strings.HasSuffix(name, "_test.go") {
				sidecar.WriteString(text)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n.sidecar = sidecar.String()
	return n
}

func (n *named) collectGo(dir, base, text string) {
	if strings.HasSuffix(base, "_test.go") {
		for line := range strings.SplitSeq(text, "\n") {
			if !strings.HasPrefix(line, "func ") {
				continue
			}
			if m := testFunc.FindStringSubmatch(line); m != nil {
				n.tests[dir] = append(n.tests[dir], m[1])
				n.tests[path.Base(dir)] = append(n.tests[path.Base(dir)], m[1])
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
		for line := range strings.SplitSeq(text, "\n") {
			if !strings.Contains(line, `Code: "`) && !strings.Contains(line, `Errorf(`) {
				continue
			}
			for _, m := range errorCode.FindAllStringSubmatch(line, -1) {
				n.codes = append(n.codes, m[1])
			}
		}
	}
	if dir == "cmd/sallyport-control" || dir == "cmd/sallyport-sidecar" {
		program := path.Base(dir)
		if n.flags[program] == nil {
			n.flags[program] = map[string]bool{"help": true}
		}
		addFlags(n.flags[program], text)
		for _, m := range commandType.FindAllStringSubmatch(text, -1) {
			n.commands[program+" "+kebab(m[1])] = nil
		}
	}
}

// flagsOfHelp are the flags that a help lists; one that is on or off has both forms.
func flagsOfHelp(help string) map[string]bool {
	flags := map[string]bool{}
	for _, m := range helpFlag.FindAllStringSubmatch(help, -1) {
		flags[m[2]] = true
		if m[1] != "" {
			flags["no-"+m[2]] = true
		}
	}
	return flags
}

// addFlags adds the flags that fields of a program's commands are, as its help has them.
func addFlags(flags map[string]bool, text string) {
	for _, m := range flagField.FindAllStringSubmatch(text, -1) {
		name := kebab(m[1])
		if given := flagRename.FindStringSubmatch(m[2]); given != nil {
			name = given[1]
		}
		flags[name] = true
		if strings.Contains(m[2], "negatable") {
			flags["no-"+name] = true
		}
	}
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
