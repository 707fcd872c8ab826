// Package scripts holds what builds, tests and shows the project. Its tests keep the
// layout of the tree, which folders there are and who imports whom, and hold the pages
// to what there is.
package scripts

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// Lines of a file. Tests may be longer: their tables are read one row at a time.
const (
	maxLines     = 450
	maxTestLines = 600
)

// source is one Go file, as far as the rules care.
type source struct {
	path      string // relative to the module's root
	dir       string
	pkg       string
	imports   []string // those of this module without the module's name
	foreign   []string // those of other modules
	lines     int
	generated bool
	test      bool
}

// rule is one line of the layout, with the reason that makes it worth keeping.
type rule struct {
	name string
	why  string
	// breach says what breaks the rule in s, or "".
	breach func(s source) string
}

var rules = []rule{
	{
		"nothing imports cmd",
		"a program only wires parts together; what another package wants from it belongs in a package of its own",
		func(s source) string { return firstImport(s, "cmd", s.dir) },
	},
	{
		"control (the root) imports the standard library only",
		"the domain is read by everybody, so it must bring nothing along",
		func(s source) string {
			if s.dir != "control" || s.test {
				return ""
			}
			return first(slices.Concat(s.imports, s.foreign))
		},
	},
	{
		"control/… imports neither sidecar nor netsetup",
		"the control plane must build and run where no sandbox can",
		func(s source) string {
			if s.test || !within(s.dir, "control") {
				return ""
			}
			return cmp.Or(firstImport(s, "sidecar"), firstImport(s, "netsetup"))
		},
	},
	{
		"control/console imports control only",
		"it reaches everything by the admin API, which holds callers to their roles; what it reached otherwise would be a way around them",
		func(s source) string {
			if s.test || !within(s.dir, "control/console") {
				return ""
			}
			return first(slices.DeleteFunc(slices.Clone(s.imports), func(imported string) bool { return imported == "control" }))
		},
	},
	{
		"netsetup imports neither sidecar nor control",
		"sealing a namespace knows no HTTP and no vaults, so that it can be reviewed, and reused, alone",
		func(s source) string {
			if !within(s.dir, "netsetup") {
				return ""
			}
			return cmp.Or(firstImport(s, "sidecar"), firstImport(s, "control"))
		},
	},
	{
		"of control, sidecar/… imports control/api only",
		"the wire contract is all that the two sides share; anything else would tie their releases together",
		func(s source) string {
			if s.test || !within(s.dir, "sidecar") {
				return ""
			}
			return firstImport(s, "control", "control/api")
		},
	},
	{
		"of sidecar/…, only sidecar itself and gate import netsetup",
		"the other parts work on connections and requests, wherever these came from",
		func(s source) string {
			if s.test || !within(s.dir, "sidecar") || s.dir == "sidecar" || s.dir == "sidecar/gate" {
				return ""
			}
			return firstImport(s, "netsetup")
		},
	},
	{
		"the parts of sidecar don't import each other",
		"each is one step of a request's way and is tested without the others; sidecar.go joins them. " +
			"match is no step but what scan, redact and socket are made of, head what proxy reads and writes with",
		func(s source) string {
			if s.test || !strings.HasPrefix(s.dir, "sidecar/") {
				return ""
			}
			part := partOf(s.dir)
			switch part {
			case "sidecar/scan", "sidecar/redact", "sidecar/socket":
				return firstImport(s, "sidecar", part, "sidecar/match")
			case "sidecar/proxy":
				return firstImport(s, "sidecar", part, "sidecar/head")
			}
			return firstImport(s, "sidecar", part)
		},
	},
	{
		"only control/store imports pgx",
		"one package speaks SQL, so one package scopes every statement to a team",
		func(s source) string {
			if s.test || within(s.dir, "control/store") {
				return ""
			}
			return firstForeign(s, "github.com/jackc/")
		},
	},
	{
		"Prometheus only in metrics.go files",
		"metrics are counted in one place a package and can be read there in one go",
		func(s source) string {
			if s.test || path.Base(s.path) == "metrics.go" {
				return ""
			}
			return firstForeign(s, "github.com/prometheus/")
		},
	},
	{
		"netlink, netns and nftables only in netsetup and sidecar/supervise",
		"what can change a machine's network stays where it is reviewed as such",
		func(s source) string {
			if within(s.dir, "netsetup") || within(s.dir, "sidecar/supervise") {
				return ""
			}
			return firstForeign(s, "github.com/vishvananda/", "github.com/google/nftables", "github.com/mdlayher/", "github.com/coreos/go-iptables")
		},
	},
	{
		"Linux-only libraries only in _linux.go files",
		"the command line also builds elsewhere",
		func(s source) string {
			base := strings.TrimSuffix(path.Base(s.path), ".go")
			if s.test || strings.HasSuffix(base, "_linux") {
				return ""
			}
			return firstForeign(s, "github.com/vishvananda/", "github.com/google/nftables", "github.com/landlock-lsm/",
				"github.com/elastic/go-seccomp-bpf", "kernel.org/pub/linux/libs/security/")
		},
	},
	{
		"no package is named for being a heap",
		"a package is a noun a newcomer would guess; util, common, types, helpers and manager say nothing",
		func(s source) string {
			for _, heap := range []string{"util", "utils", "common", "types", "helper", "helpers", "manager", "misc", "shared"} {
				if s.pkg == heap || path.Base(s.dir) == heap {
					return "package " + heap
				}
			}
			return ""
		},
	},
	{
		fmt.Sprintf("no file is longer than %d lines", maxLines),
		"a file is about one thing; a longer one is about two",
		func(s source) string {
			if s.generated || s.lines <= maxLines || s.test && s.lines <= maxTestLines {
				return ""
			}
			return strconv.Itoa(s.lines) + " lines"
		},
	},
}

// folders are all there may be at the top of the tree; those that begin with a
// dot belong to tools.
var folders = []string{"bin", "cmd", "control", "docs", "e2e", "images", "netsetup", "scripts", "sidecar"}

func TestLayout(t *testing.T) {
	for _, breach := range check(t, os.DirFS("..")) {
		t.Error(breach)
	}
}

// TestEveryRuleCanFail breaks each rule once in a tree of its own: a rule that
// can't be broken keeps nothing.
func TestEveryRuleCanFail(t *testing.T) {
	long := "package gate\n" + strings.Repeat("\n", maxLines)
	importing := func(pkg, path string) string { return fmt.Sprintf("package %s\nimport _ %q\n", pkg, path) }
	tests := []struct{ rule, path, text string }{
		{"nothing imports cmd", "e2e/world.go", importing("e2e", "sallyport/cmd/sallyport/client")},
		{"control (the root) imports the standard library only", "control/control.go", importing("control", "github.com/google/uuid")},
		{"control (the root) imports the standard library only", "control/control.go", importing("control", "sallyport/control/api")},
		{"control/… imports neither sidecar nor netsetup", "control/agentapi/watch.go", importing("agentapi", "sallyport/sidecar/bind")},
		{"control/… imports neither sidecar nor netsetup", "control/agentapi/watch.go", importing("agentapi", "sallyport/netsetup")},
		{"control/console imports control only", "control/console/session.go", importing("console", "sallyport/control/store")},
		{"netsetup imports neither sidecar nor control", "netsetup/seal.go", importing("netsetup", "sallyport/sidecar")},
		{"netsetup imports neither sidecar nor control", "netsetup/seal.go", importing("netsetup", "sallyport/control")},
		{"of control, sidecar/… imports control/api only", "sidecar/bind/bind.go", importing("bind", "sallyport/control")},
		{"of sidecar/…, only sidecar itself and gate import netsetup", "sidecar/proxy/dial.go", importing("proxy", "sallyport/netsetup")},
		{"the parts of sidecar don't import each other", "sidecar/proxy/proxy.go", importing("proxy", "sallyport/sidecar/inject")},
		{"the parts of sidecar don't import each other", "sidecar/proxy/proxy.go", importing("proxy", "sallyport/sidecar/match")},
		{"the parts of sidecar don't import each other", "sidecar/inject/inject.go", importing("inject", "sallyport/sidecar")},
		{"only control/store imports pgx", "control/admin/teams.go", importing("admin", "github.com/jackc/pgx/v5")},
		{"Prometheus only in metrics.go files", "sidecar/proxy/proxy.go", importing("proxy", "github.com/prometheus/client_golang/prometheus")},
		{"netlink, netns and nftables only in netsetup and sidecar/supervise", "cmd/sallyport/run_linux.go", importing("main", "github.com/vishvananda/netlink")},
		{"Linux-only libraries only in _linux.go files", "netsetup/seal.go", importing("netsetup", "github.com/google/nftables")},
		{"no package is named for being a heap", "control/util/strings.go", "package util\n"},
		{fmt.Sprintf("no file is longer than %d lines", maxLines), "sidecar/gate/gate.go", long},
		{"no folder at the top but those agreed", "pkg/gate.go", "package gate\n"},
	}
	broken := map[string]bool{}
	for _, tt := range tests {
		breaches := check(t, fstest.MapFS{tt.path: {Data: []byte(tt.text)}})
		found := func(breach string) bool {
			where, what, _ := strings.Cut(breach, ": ")
			return strings.HasPrefix(tt.path, where) && strings.HasPrefix(what, tt.rule)
		}
		if !slices.ContainsFunc(breaches, found) {
			t.Errorf("%s was not found to break %q; found: %q", tt.path, tt.rule, breaches)
		}
		broken[tt.rule] = true
	}
	for _, r := range rules {
		if !broken[r.name] {
			t.Errorf("nothing here breaks the rule %q", r.name)
		}
	}
}

// TestRulesLetPass shows what the rules are not about.
func TestRulesLetPass(t *testing.T) {
	tree := fstest.MapFS{
		"cmd/sallyport/run.go":            {Data: []byte("package main\nimport _ \"sallyport/cmd/sallyport/client\"\n")},
		"sidecar/sidecar.go":              {Data: []byte("package sidecar\nimport (\n_ \"sallyport/sidecar/gate\"\n_ \"sallyport/netsetup\"\n_ \"sallyport/control/api\"\n)\n")},
		"sidecar/gate/gate.go":            {Data: []byte("package gate\nimport _ \"sallyport/netsetup\"\n")},
		"control/api/sidecar.pb.go":       {Data: []byte("// Code generated by protoc-gen-go. DO NOT EDIT.\n\npackage api\n" + strings.Repeat("\n", 2*maxLines))},
		"control/store/store.go":          {Data: []byte("package store\nimport _ \"github.com/jackc/pgx/v5\"\n")},
		"netsetup/nftables_linux.go":      {Data: []byte("package netsetup\nimport _ \"github.com/google/nftables\"\n")},
		"e2e/node/node_modules/util/x.go": {Data: []byte("package util\n")},
		".cache/util/x.go":                {Data: []byte("package util\n")},
	}
	for _, breach := range check(t, tree) {
		t.Error(breach)
	}
}

// check holds every Go file of the tree against every rule.
func check(t *testing.T, tree fs.FS) []string {
	t.Helper()
	var breaches []string
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case d.IsDir():
			if strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules" {
				return fs.SkipDir
			}
			if !strings.Contains(name, "/") && !slices.Contains(folders, name) {
				breaches = append(breaches, fmt.Sprintf("%s: no folder at the top but those agreed: %s", name, strings.Join(folders, ", ")))
			}
			return nil
		case path.Ext(name) != ".go":
			return nil
		}
		s, err := read(tree, name)
		if err != nil {
			return err
		}
		for _, r := range rules {
			if what := r.breach(s); what != "" {
				breaches = append(breaches, fmt.Sprintf("%s: %s (here: %s), because %s", s.path, r.name, what, r.why))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return breaches
}

func read(tree fs.FS, name string) (source, error) {
	text, err := fs.ReadFile(tree, name)
	if err != nil {
		return source{}, err
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return source{}, err
	}
	s := source{
		path: name, dir: path.Dir(name), pkg: strings.TrimSuffix(file.Name.Name, "_test"),
		lines: bytes.Count(text, []byte("\n")), generated: ast.IsGenerated(file), test: strings.HasSuffix(name, "_test.go"),
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return source{}, err
		}
		root, _, _ := strings.Cut(imported, "/")
		switch {
		case root == "sallyport":
			s.imports = append(s.imports, strings.TrimPrefix(imported, "sallyport/"))
		case strings.Contains(root, "."):
			s.foreign = append(s.foreign, imported)
		}
	}
	return s, nil
}

// within reports whether dir is root or below it.
func within(dir, root string) bool { return dir == root || strings.HasPrefix(dir, root+"/") }

// partOf is the part of sidecar that dir belongs to.
func partOf(dir string) string {
	parts := strings.SplitN(dir, "/", 3)
	return path.Join(parts[:2]...)
}

// firstImport is the first import within root and not within one of the exceptions.
func firstImport(s source, root string, but ...string) string {
	return first(slices.DeleteFunc(slices.Clone(s.imports), func(imported string) bool {
		return !within(imported, root) || slices.ContainsFunc(but, func(b string) bool { return within(imported, b) })
	}))
}

func firstForeign(s source, prefixes ...string) string {
	return first(slices.DeleteFunc(slices.Clone(s.foreign), func(imported string) bool {
		return !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(imported, p) })
	}))
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
