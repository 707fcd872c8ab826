package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/e2e"
)

// The program starts itself in its other roles.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		main()
		return
	}
	os.Exit(m.Run())
}

// Every way that needs no program of somebody else's gives figures for every
// measure that it can, and what is written can be read.
func TestQuick(t *testing.T) {
	dir := t.TempDir()
	bin, err := e2e.ShippedPrograms()
	if err != nil {
		t.Fatal(err)
	}
	doc := filepath.Join(dir, "doc.md")
	if err := os.WriteFile(doc, []byte("before\n"+generatedBegin+"\nold\n"+generatedEnd+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	ways := []string{"direct", "splice", "floor", "inject", "inspect", "passthrough", "reverse", "goproxy"}
	if err := run([]string{"-quick", "-core", "-1", "-bin", bin, "-out", dir + "/out", "-doc", doc, "-ways", strings.Join(ways, ",")}, &out); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(written), generatedBegin+"\n"+out.String())
	between, after, _ := strings.Cut(rest, generatedEnd)
	if before != "before\n" || after != "\nafter\n" || !strings.Contains(between, "(out/cpu.svg)") {
		t.Errorf("the document has %s\nwant in it %s and the plots", written, &out)
	}
	text, err := os.ReadFile(dir + "/out/results.json")
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	for _, m := range allMeasures() {
		for _, y := range allWays() {
			if !slices.Contains(y.protocols, m.protocol) || !slices.Contains(ways, y.name) {
				continue
			}
			if first := m.columns[0].key; math.IsNaN(r.median(m.name, y.name, first)) {
				t.Errorf("%s of %s was not measured", m.name, y.name)
			}
		}
	}
	for _, target := range allTargets() {
		if !strings.Contains(target.want, "squid") && !strings.Contains(target.want, "mitmproxy") && math.IsNaN(target.got(&r)) {
			t.Errorf("%s, %s: not measured", target.what, target.want)
		}
	}
	plots, err := filepath.Glob(dir + "/out/*.svg")
	if err != nil || len(plots) != len(allBars())+1 {
		t.Errorf("plots: %v, %v", plots, err)
	}
}

// A way that answers wrongly must not be measured as a fast one.
func TestWrongAnswers(t *testing.T) {
	right := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s: key\r\n\r\n%s", len(answer), seenHeader, answer)
	for name, test := range map[string]struct{ response, want string }{
		"right":         {right, ""},
		"status":        {strings.Replace(right, "200 OK", "502 Bad Gateway", 1), "502"},
		"shorter":       {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "2 bytes"},
		"another":       {strings.Replace(right, "xxx", "xyx", 1), "not the origin's"},
		"no length":     {strings.Replace(right, "Content-Length", "X-Length", 1), "-1 bytes"},
		"no credential": {strings.Replace(right, ": key", ": -", 1), "the origin saw -"},
		"cut short":     {right[:len(right)-1], io.ErrUnexpectedEOF.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			conn := newConn1(near, "a.test")
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer far.Close()
				if _, err := http.ReadRequest(bufio.NewReader(far)); err != nil {
					t.Error(err)
				}
				io.WriteString(far, test.response) // the client may not want all of it
			}()
			_, err := newTally(job{Connections: 1, Requests: 1, Limit: 1e10}).repeat("key", func(int) (string, error) { return conn.ask() })
			near.Close()
			<-done
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got error %v, want %q", err, test.want)
			}
		})
	}
}
