package forward

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leodido/go-syslog/v4/rfc5424"

	"sallyport/control"
	"sallyport/control/store"
)

// everyKind are all that the control plane records, and whether somebody should look. What a kind
// has that no other has is checked where it is recorded.
var everyKind = map[string]bool{
	"request": false, "grant": false, "allot": false, "approval.ask": false, "approval.approve": false, "approval.deny": false,
	"agent.create": false, "agent.delete": false, "agent.pin": false, "agent.unpin": false, "agent.policy": false,
	"audit.refused": true, "audit.retention": false, "ca.": false,
	"credential.capture": false, "credential.create": false, "credential.delete": false, "credential.due": false, "credential.login": false, "credential.overlap_end": false,
	"credential.refresh": false, "credential.rotate": false, "credential.test": false, "credential.update": false,
	"key.rewrap": false, "key.rotate": false, "key.rotated": false,
	"sandbox.alert": true, "sandbox.create": false, "sandbox.lock": true, "sandbox.revoke": false,
	"session.create": false, "session.revoke": false, "source.create": false, "source.delete": false, "source.rotate": false,
	"team.audit": false, "team.create": false, "team.quota": false, "token.create": false, "token.delete": false, "token.rotate": false,
	"vault.create": false, "vault.delete": false,
}

// fields are what leaves of an event. One that is added needs a look at whether it may leave.
var fields = []string{
	"actor", "agent", "credential", "decision", "detail", "duration_us", "hash", "host", "id", "kind", "lease", "method", "path", "port", "protocol", "reason",
	"recorded_at", "redactions", "request_bytes", "request_id", "response_bytes", "sandbox", "status", "team", "time", "upstream_us", "version",
}

// samples are an event of each kind, and a request that was refused, with every field set, to texts that
// would be fields, records or escapes of their own.
func samples() (all []Event) {
	at := time.Date(2026, 11, 28, 9, 30, 0, 123456000, time.UTC)
	odd := "\x1b[2J\"] [x@1 y=\"z\"]\n<110>1 - \\ \u2028é"
	for _, kind := range append(slices.Sorted(maps.Keys(everyKind)), "request") {
		e := control.Event{
			ID: int64(len(all)) + 1, Time: at, Kind: kind, Actor: "token:" + odd, Agent: "a" + odd, Sandbox: "s" + odd, RequestID: "r" + odd, Host: "h" + odd, Port: 443,
			Method: "GET" + odd, Path: "/p" + odd, Protocol: "h2", Decision: "inject", Reason: "why" + odd, Status: 200, Credential: "v/c" + odd, Version: 3, Lease: "l" + odd,
			BytesOut: 1 << 40, BytesIn: 1 << 41, DurationUS: 5, UpstreamUS: 4, Redactions: 2, Detail: "d" + odd,
		}
		if len(all) == len(everyKind) {
			e.Decision = "refuse"
		}
		all = append(all, Event{"id", "billing", store.ChainedEvent{Event: e, RecordedAt: at.Add(time.Second), Hash: []byte{1, 2, byte(len(all))}}})
	}
	return all
}

// TestEveryKind: an event of every kind that the control plane records, new ones included, leaves
// whole by syslog and OTLP, as the docs say.
func TestEveryKind(t *testing.T) {
	recorded := recordedKinds(t)
	for kind, at := range recorded {
		if _, known := everyKind[kind]; !known {
			t.Errorf("%s: the kind %q is new: say in everyKind whether somebody should look at it", at, kind)
		}
	}
	for kind := range everyKind {
		if recorded[kind] == "" {
			t.Errorf("nothing records the kind %q", kind)
		}
	}
	sender := &syslog{from: Sender{"replica.test", "v1"}}
	for _, e := range samples() {
		want := want(t, e)
		if got := slices.Sorted(maps.Keys(want)); !slices.Equal(got, fields) {
			t.Fatalf("an event leaves with %v, not %v", got, fields)
		}
		text := must(sender.message(e))(t)
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%s: the message is %q", e.Kind, text)
		}
		m := must(rfc5424.NewParser().Parse([]byte(text)))(t).(*rfc5424.SyslogMessage)
		severity := uint8(info)
		if warned(e) {
			severity = warning
		}
		if *m.MsgID != e.Kind || *m.Appname != "sallyport" || *m.Hostname != "replica.test" || *m.Severity != severity || *m.Facility != facility || m.StructuredData != nil || !m.Timestamp.Equal(e.RecordedAt) {
			t.Errorf("%s: the header of %s", e.Kind, text)
		}
		same(t, e.Kind, *m.Message, want)

		r := must(logRecord(e))(t)
		if r.EventName != "sallyport.audit."+e.Kind || (r.SeverityText == "WARN") != warned(e) || (r.SeverityNumber == 13) != warned(e) ||
			r.TimeUnixNano != uint64(e.Time.UnixNano()) || r.ObservedTimeUnixNano != uint64(e.RecordedAt.UnixNano()) {
			t.Errorf("%s: the record %v", e.Kind, r)
		}
		same(t, e.Kind, r.Body.GetStringValue(), want)
		got := make(map[string]any)
		for _, a := range r.Attributes {
			name := strings.TrimPrefix(a.Key, "sallyport.")
			got[name] = a.Value.GetStringValue()
			if _, number := want[name].(float64); number {
				got[name] = float64(a.Value.GetIntValue())
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: the attributes are %v, not %v", e.Kind, got, want)
		}
	}
}

func warned(e Event) bool { return everyKind[e.Kind] || e.Decision == "refuse" }

// want are the fields of an event by the names of an export.
func want(t *testing.T, e Event) (all map[string]any) {
	t.Helper()
	text := must(json.Marshal(e.ChainedEvent))(t)
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	all["team"], all["hash"] = e.Team, hex.EncodeToString(e.Hash)
	return all
}

func same(t *testing.T, kind, line string, want map[string]any) {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal([]byte(line), &got); err != nil || !maps.Equal(got, want) {
		t.Errorf("%s: %v: %s is not %v", kind, err, line, want)
	}
}

// recordedKinds are the kinds of events in the control plane's source, and where: those of an
// Event that is written out, of one that is set, and of the two functions that make one.
func recordedKinds(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	files := token.NewFileSet()
	packages := make(map[string][]*ast.File)
	for _, root := range []string{"..", "../../cmd/sallyport-control"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "controltest") {
				return err
			}
			f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			packages[filepath.Dir(path)] = append(packages[filepath.Dir(path)], f)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, parsed := range packages {
		texts := make(map[string][]string) // what names of the package may be
		for _, f := range parsed {
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.ValueSpec:
					for i, v := range n.Values {
						texts[n.Names[i].Name] = append(texts[n.Names[i].Name], literal(v)...)
					}
				case *ast.AssignStmt:
					for i, left := range n.Lhs {
						if name, ok := left.(*ast.Ident); ok && len(n.Lhs) == len(n.Rhs) {
							texts[name.Name] = append(texts[name.Name], literal(n.Rhs[i])...)
						}
					}
				}
				return true
			})
		}
		add := func(e ast.Expr) {
			at := files.Position(e.Pos()).String()
			names := literal(e)
			if name, ok := e.(*ast.Ident); ok {
				names = texts[name.Name]
			}
			if len(names) == 0 {
				t.Errorf("%s: it can't be told which kinds of events are recorded here", at)
			}
			for _, name := range names {
				if name != "" { // the store says it
					found[name] = at
				}
			}
		}
		for _, f := range parsed {
			ast.Inspect(f, func(n ast.Node) bool { kindIn(n, add); return true })
		}
	}
	return found
}

// kindIn gives the expression of an event's kind in a node to add.
func kindIn(n ast.Node, add func(ast.Expr)) {
	switch n := n.(type) {
	case *ast.CallExpr:
		if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "act" && len(n.Args) == 3 {
			add(n.Args[1])
		} else if ok && f.Name == "system" && len(n.Args) == 2 {
			add(n.Args[0])
		}
	case *ast.CompositeLit:
		if of := fmt.Sprint(n.Type); of != "&{control Event}" {
			return
		}
		for _, e := range n.Elts {
			if pair, ok := e.(*ast.KeyValueExpr); ok && fmt.Sprint(pair.Key) == "Kind" && fmt.Sprint(pair.Value) != "kind" { // act's and system's own
				add(pair.Value)
			}
		}
	case *ast.AssignStmt:
		for i, left := range n.Lhs {
			if field, ok := left.(*ast.SelectorExpr); ok && field.Sel.Name == "Kind" && len(n.Lhs) == len(n.Rhs) {
				if of := fmt.Sprint(field.X); of == "act" || of == "e" || of == "event" {
					add(n.Rhs[i])
				}
			}
		}
	}
}

// literal is the text of a literal, or that which a sum begins with.
func literal(e ast.Expr) []string {
	if sum, ok := e.(*ast.BinaryExpr); ok {
		e = sum.X
	}
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		if text, err := strconv.Unquote(l.Value); err == nil {
			return []string{text}
		}
	}
	return nil
}
