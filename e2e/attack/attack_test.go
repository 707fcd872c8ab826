package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
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
