package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"sallyport/e2e"
)

// What go test says is counted by its innermost tests, and nothing is taken for held
// that did not run.
func TestReadEvents(t *testing.T) {
	events := `{"Action":"start"}
{"Action":"run","Test":"TestA"}
{"Action":"run","Test":"TestA/one"}
{"Action":"pass","Test":"TestA/one"}
{"Action":"run","Test":"TestA/two"}
{"Action":"output","Test":"TestA/two","Output":"it got out\n"}
{"Action":"fail","Test":"TestA/two"}
{"Action":"fail","Test":"TestA"}
{"Action":"run","Test":"TestB"}
{"Action":"skip","Test":"TestB"}
{"Action":"run","Test":"TestC"}
{"Action":"pass","Test":"TestC"}
{"Action":"output","Output":"FAIL\n"}
{"Action":"fail"}`
	results, outside, err := readEvents(strings.NewReader(events))
	want := []result{{"TestA/one", ""}, {"TestA/two", "it got out\n"}, {"TestB", "it was skipped"}, {"TestC", ""}}
	if err != nil || !slices.Equal(results, want) || outside != "FAIL\n" {
		t.Errorf("got %q, %q, %v", results, outside, err)
	}
}

// A table with a broken case, or a corpus without any, is a failure.
func TestTable(t *testing.T) {
	table := &table{details: io.Discard}
	report := table.row("steer")
	if table.verdict() == nil {
		t.Error("a corpus without cases was taken for one that held")
	}
	report(result{name: "a"})
	if err := table.verdict(); err != nil {
		t.Errorf("a case held, and the verdict is %v", err)
	}
	report(result{"b", "it came to another host"})
	if table.verdict() == nil {
		t.Error("a broken case is no failure")
	}
	var out bytes.Buffer
	table.print(&out)
	if !strings.Contains(out.String(), "steer      2     1       1") {
		t.Errorf("printed\n%s", &out)
	}
}

// The program starts itself as the agent in a sandbox.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		main()
		return
	}
	os.Exit(m.Run())
}

// What judges the answers finds every encoding of a credential, in every content coding,
// and nothing in those of another.
func TestOracle(t *testing.T) {
	for _, c := range canaries[:2] {
		for _, e := range encodings() {
			text := "before " + e.encode(c) + " after"
			if _, how := finds([]byte(text), c.decoy().secret, c.secret); how == "" {
				t.Errorf("%s of %s is not found in %q", e.name, c.name, text)
			}
			if _, how := finds([]byte(text), c.decoy().secret); how != "" {
				t.Errorf("another secret is found in %s of %s, %s", e.name, c.name, how)
			}
		}
		for _, stack := range stacks {
			packed := strings.Join(compress([]string{"before " + c.secret[:9], c.secret[9:] + " after"}, stack), "")
			if _, how := finds([]byte(packed), c.secret); how == "" {
				t.Errorf("it is not found in %v", stack)
			}
		}
	}
}

// Cases have names of their own, so that one can be run alone; and there are as many as
// the corpora promise.
func TestNamesOfCases(t *testing.T) {
	names := map[string]int{}
	target := &target{sallyport: true, credentials: canaries, doors: []door{{"intercepted", noDoor}, {"connect", noDoor}}}
	steering, reflecting := attempts(target, nil), reflections(target)
	for _, a := range steering {
		names["steer "+a.name]++
	}
	for _, r := range reflecting {
		names["reflect "+r.name()]++
	}
	for name, n := range names {
		if n != 1 {
			t.Errorf("%d cases are called %s", n, name)
		}
	}
	if len(steering) < 2000 || len(reflecting) < 5000 {
		t.Errorf("there are %d cases of steer and %d of reflect", len(steering), len(reflecting))
	}
}

func noDoor(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody is there") }

// What a server could take for a path that is denied.
func TestLeadsTo(t *testing.T) {
	for target, want := range map[string]bool{
		"/admin": true, "/admin/x": true, "/ADMIN": true, "/x/..;/admin": true, "/%61dmin": true, "/%2561dmin": true, `/x\..\admin`: true, "/x/%2e%2e/admin?q": true,
		"/administrator": false, "/x/admin": false, "/?/admin": false, "/": false,
	} {
		if leadsTo(target, deniedPath) != want {
			t.Errorf("%s: %t", target, !want)
		}
	}
}

// Sallyport holds against some of the cases; make attack tries all.
func TestSample(t *testing.T) {
	bin, err := e2e.ShippedPrograms()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run([]string{"-bin", bin, "-corpora", "steer,reflect", "-sample", "80"}, &out); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
}
