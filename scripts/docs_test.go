package scripts

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestDocs holds that every link, anchor, file, test, command, flag, metric,
// error code and make target that a page names is there, and that the pages
// name every metric and error code there is.
func TestDocs(t *testing.T) {
	for _, wrong := range checkDocs(t, os.DirFS("..")) {
		t.Error(wrong)
	}
}

// TestDocsCanBeWrong has a page that is wrong in each way, and one that is not.
func TestDocsCanBeWrong(t *testing.T) {
	tree := fstest.MapFS{
		"Makefile":                         {Data: []byte("build: ## build\n")},
		"README.md":                        {Data: []byte("# Good\n## A part, `with` code\n[x](#a-part-with-code) [y](docs/troubleshooting.md#codes) gate `TestGate/case`, `make build`\n```\nsallyport team create x --json  # a comment\n```\n")},
		"cmd/sallyport/testdata/help.txt":  {Data: []byte("$ sallyport --help\n\n$ sallyport team create --help\n  --[no-]json  As JSON.\n\n$ sallyport run --help\n")},
		"cmd/sallyport-control/serve.go":   {Data: []byte("type serveCmd struct {\n\tDataDir string `help:\"d\"`\n}\n")},
		"cmd/sallyport-sidecar/init.go":    {Data: []byte("type initCmd struct {\n\tUpstreamCA string `name:\"upstream-ca\" help:\"d\"`\n}\n")},
		"sidecar/metrics.go":               {Data: []byte("Name: \"sallyport_sidecar_known_total\", Name: \"sallyport_sidecar_unsaid_total\"")},
		"sidecar/gate/gate.go":             {Data: []byte("Refusal{Code: \"no_sni\"}; Errorf(502, \"unsaid\")")},
		"sidecar/bind/bind_test.go":        {Data: []byte("func FuzzBind(f *testing.F) {")},
		"sidecar/gate/gate_test.go":        {Data: []byte("func TestGate(t *testing.T) {")},
		"docs/troubleshooting.md":          {Data: []byte("# Codes\n| `no_sni`, `made_up` | 502 | what |\n`sallyport_sidecar_known_total`\n")},
		"docs/wrong.md":                    {Data: []byte("[a](gone.md) [b](wrong.md#gone) [c](#gone) gate `TestGone`, bind `TestGate`; `sallyport team destroy`, `team destroy x`, `sallyport team create --gone`, `--gone`, `sallyport_sidecar_gone`, `…_gone_total`, `make gone`, `e2e/gone.go`\n")},
		"docs/right.md":                    {Data: []byte("cmd/sallyport `sallyport-control serve --data-dir x \\| podman --gone`, `--upstream-ca`, `sallyport run -- x --gone`, `…_known_total`, `sallyport_sidecar_kno…`\n")},
		"e2e/node/node_modules/x/index.md": {Data: []byte("[a](gone.md)")},
	}
	found := checkDocs(t, tree)
	for _, want := range []string{
		`docs/wrong.md: no file "gone.md"`, `docs/wrong.md: no anchor "wrong.md#gone"`, `docs/wrong.md: no anchor "#gone"`,
		`docs/wrong.md: no test "TestGone"`, `docs/wrong.md: no test "TestGate" in bind, but in gate`,
		`docs/wrong.md: no command "sallyport team destroy"`, `docs/wrong.md: no command "team destroy x"`,
		`docs/wrong.md: no flag --gone of "sallyport team create"`, `docs/wrong.md: no program has the flag --gone`,
		`docs/wrong.md: no metric "sallyport_sidecar_gone"`, `docs/wrong.md: no metric "…_gone_total"`,
		`docs/wrong.md: no target of make "gone"`, `docs/wrong.md: no file "e2e/gone.go"`,
		`docs/troubleshooting.md: no error code "made_up"`, `docs/troubleshooting.md: nothing on the error code "unsaid"`,
		`docs: nothing on the metric "sallyport_sidecar_unsaid_total"`,
	} {
		if !slices.Contains(found, want) {
			t.Errorf("not found: %s", want)
		}
		found = slices.DeleteFunc(found, func(s string) bool { return s == want })
	}
	for _, wrong := range found {
		t.Errorf("found to be wrong: %s", wrong)
	}
}

var (
	fence     = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```")
	indented  = regexp.MustCompile(`(?m)^    .*$`)
	span      = regexp.MustCompile("`([^`\n]+)`")
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	notInSlug = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
	testName  = regexp.MustCompile("(?:([a-z][a-z0-9/-]*) )?`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)(?:/[^`]*)?`|[;|(]|\\. ")
	metric    = regexp.MustCompile("(?:sallyport_(?:control|sidecar)|`…)_[a-z_]+…?")
	program   = regexp.MustCompile(`(?:^|[|&(] ?|bin/)(sallyport(?:-control|-sidecar)?)((?: [^ ]+)+)`)
	flagName  = regexp.MustCompile(`^--([a-z][a-z-]*)`)
	codeCell  = regexp.MustCompile("^`([a-z]+(?:_[a-z0-9]+)*)`$")
	inTree    = regexp.MustCompile(`^(?:cmd|control|e2e|images|netsetup|scripts|sidecar)/[\w./-]+\.(?:go|md|proto|txt|json)$`)
)

// page is a Markdown file in its parts.
type page struct {
	name, text, prose string   // prose is what stands outside of blocks of code
	code              []string // lines of blocks, joined where one goes on, and spans
}

func checkDocs(t *testing.T, tree fs.FS) []string {
	t.Helper()
	n := collect(t, tree)
	var wrong, mentioned []string
	for _, p := range pages(t, tree) {
		report := func(format string, args ...any) { wrong = append(wrong, p.name+": "+fmt.Sprintf(format, args...)) }
		n.checkLinks(p, report)
		n.checkTests(p, report)
		n.checkCommands(p, report)
		mentioned = append(mentioned, n.checkMetrics(p, report)...)
		if p.name == "docs/troubleshooting.md" {
			n.checkCodes(p, report)
		}
	}
	for _, m := range n.metrics {
		if !slices.ContainsFunc(mentioned, func(as string) bool { return isMetric(as, m) }) {
			wrong = append(wrong, fmt.Sprintf("docs: nothing on the metric %q", m))
		}
	}
	return wrong
}

// isMetric reports whether a page means the metric by as: whole, or its beginning
// or end with "…" for the rest.
func isMetric(as, name string) bool {
	if begin, cut := strings.CutSuffix(as, "…"); cut {
		return strings.HasPrefix(name, begin)
	}
	end, cut := strings.CutPrefix(as, "…")
	return as == name || cut && strings.HasSuffix(name, end)
}

func pages(t *testing.T, tree fs.FS) []page {
	t.Helper()
	var all []page
	for _, pattern := range []string{"*.md", "docs/*.md", "images/*.md"} {
		names, err := fs.Glob(tree, pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text := mustRead(t, tree, name)
			p := page{name: name, text: text, prose: indented.ReplaceAllString(fence.ReplaceAllString(text, ""), "")}
			blocks := strings.Join(indented.FindAllString(fence.ReplaceAllString(text, ""), -1), "\n")
			for _, f := range fence.FindAllStringSubmatch(text, -1) {
				blocks += "\n" + f[1]
			}
			p.code = strings.Split(strings.ReplaceAll(blocks, "\\\n", " "), "\n")
			for _, s := range span.FindAllStringSubmatch(strings.ReplaceAll(p.prose, `\|`, "|"), -1) {
				p.code = append(p.code, s[1])
			}
			all = append(all, p)
		}
	}
	return all
}

func (n *named) checkLinks(p page, report func(string, ...any)) {
	for _, l := range link.FindAllStringSubmatch(p.prose, -1) {
		target, anchor, anchored := strings.Cut(l[1], "#")
		if strings.Contains(target, "://") {
			continue
		}
		text := p.text
		if target != "" {
			name := path.Join(path.Dir(p.name), target)
			info, err := fs.Stat(n.tree, name)
			if err != nil {
				report("no file %q", target)
				continue
			}
			if read, err := fs.ReadFile(n.tree, name); !info.IsDir() && err == nil {
				text = string(read)
			}
		}
		if anchored && !slices.Contains(anchors(text), anchor) {
			report("no anchor %q", l[1])
		}
	}
	for _, c := range p.code {
		if inTree.MatchString(c) {
			if _, err := fs.Stat(n.tree, c); err != nil {
				report("no file %q", c)
			}
		}
	}
}

// anchors are those that GitHub gives a page's headings.
func anchors(text string) []string {
	var all []string
	for _, h := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		slug := notInSlug.ReplaceAllString(strings.ToLower(h[1]), "")
		all = append(all, strings.ReplaceAll(slug, " ", "-"))
	}
	return all
}

// checkTests goes by how the pages name tests: a package, then its tests, to the
// next package or the end of a cell or sentence.
func (n *named) checkTests(p page, report func(string, ...any)) {
	for _, line := range strings.Split(p.prose, "\n") {
		pkg := ""
		for _, m := range testName.FindAllStringSubmatch(line, -1) {
			if m[2] == "" {
				pkg = ""
				continue
			}
			if n.tests[m[1]] != nil {
				pkg = m[1]
			}
			switch packages := n.packagesOf(m[2]); {
			case len(packages) == 0:
				report("no test %q", m[2])
			case pkg != "" && !slices.Contains(packages, pkg):
				report("no test %q in %s, but in %s", m[2], pkg, packages[0])
			}
		}
	}
}

// packagesOf are the packages with a test of that name, those in short first.
func (n *named) packagesOf(test string) []string {
	var packages []string
	for pkg, tests := range n.tests {
		if slices.Contains(tests, test) {
			packages = append(packages, pkg)
		}
	}
	slices.SortFunc(packages, func(a, b string) int { return len(a) - len(b) })
	return packages
}

func (n *named) checkCommands(p page, report func(string, ...any)) {
	for _, c := range p.code {
		c, _, _ = strings.Cut(c+" ", " # ")
		c = strings.TrimSpace(c)
		if f := flagName.FindStringSubmatch(c); f != nil && !n.anyHasFlag(f[1]) && !foreignFlags[f[1]] {
			report("no program has the flag --%s", f[1])
		}
		if m := makeLine.FindStringSubmatch(c); m != nil && !n.targets[m[1]] {
			report("no target of make %q", m[1])
		}
		words := strings.Fields(c)
		switch {
		case vaultLine.MatchString(c):
		case len(words) > 1 && n.isGroup("sallyport "+words[0]) && plain.MatchString(words[1]) && !strings.Contains(c, "   "): // no picture
			if line := "sallyport " + c; n.command(line) == "" && !n.isGroup(line) {
				report("no command %q", c)
			}
		case len(words) > 1:
			for _, m := range program.FindAllStringSubmatch(c, -1) {
				n.checkCommand(m[1], m[2], report)
			}
		}
	}
}

// checkCommand is about one command line, to the end of what is the program's own.
func (n *named) checkCommand(name, rest string, report func(string, ...any)) {
	rest, _, _ = strings.Cut(rest, " -- ")
	rest = quoted.ReplaceAllString(rest, "X")
	if i := strings.IndexAny(rest, "|<>;)&"); i >= 0 {
		rest = rest[:i]
	}
	if first := strings.Fields(rest); len(first) == 0 || !plain.MatchString(first[0]) || first[0] == "is" {
		return // a placeholder, flags alone, or an error that is quoted
	}
	command := n.command(name + rest)
	if n.isGroup(name + rest) {
		return
	}
	if command == "" {
		report("no command %q", name+rest)
		return
	}
	flags := n.commands[command]
	if flags == nil {
		flags = n.flags[name]
	}
	for _, word := range strings.Fields(rest) {
		f := flagName.FindStringSubmatch(word)
		if f != nil && f[1] != "help" && !flags[f[1]] {
			report("no flag --%s of %q", f[1], command)
		}
	}
}

// command is the longest command that line begins with.
func (n *named) command(line string) string {
	longest := ""
	for c := range n.commands {
		if (line == c || strings.HasPrefix(line, c+" ")) && len(c) > len(longest) {
			longest = c
		}
	}
	return longest
}

// isGroup reports whether line is what commands begin with, as "sallyport team".
func (n *named) isGroup(line string) bool {
	for c := range n.commands {
		if strings.HasPrefix(c, line+" ") {
			return true
		}
	}
	return false
}

func (n *named) anyHasFlag(flag string) bool {
	for _, flags := range n.flags {
		if flags[flag] {
			return true
		}
	}
	return false
}

// checkMetrics gives the metrics that the page names.
func (n *named) checkMetrics(p page, report func(string, ...any)) []string {
	var all []string
	for _, m := range metric.FindAllString(p.text, -1) {
		m = strings.TrimPrefix(m, "`")
		if all = append(all, m); !slices.ContainsFunc(n.metrics, func(name string) bool { return isMetric(m, name) }) {
			report("no metric %q", m)
		}
	}
	return all
}

// checkCodes is about the page that explains every error code.
func (n *named) checkCodes(p page, report func(string, ...any)) {
	for _, line := range strings.Split(p.prose, "\n") {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cell, _, _ := strings.Cut(line[2:], " | ")
		for _, part := range strings.Split(cell, ", ") {
			if c := codeCell.FindStringSubmatch(part); c != nil && !strings.Contains(n.sidecar, `"`+c[1]+`"`) {
				report("no error code %q", c[1])
			}
		}
	}
	for _, code := range n.codes {
		if !strings.Contains(p.text, "`"+code+"`") {
			report("nothing on the error code %q", code)
		}
	}
}
