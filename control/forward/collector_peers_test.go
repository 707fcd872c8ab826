//go:build peers

package forward

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sallyport/control"
)

// collectorToken is what the collector wants to be shown.
const collectorToken = "canary-0123456789"

// otelcol is an OpenTelemetry Collector, which writes what it understood to a file.
type otelcol struct {
	dir, address, headers string
	config                otelConfig
	cmd                   *exec.Cmd
}

// otelConfig is where collectors differ.
type otelConfig struct {
	maxBody int  // bytes, of a request that is unpacked; 0: its own
	full    bool // it has no memory left
}

func newCollector(t *testing.T, config otelConfig) *otelcol {
	t.Helper()
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	listener.Close()
	c := &otelcol{dir: t.TempDir(), address: listener.Addr().String(), config: config}
	certificates(t, c.dir)
	c.headers = c.authorize(t, "headers", collectorToken)
	t.Cleanup(func() { c.stop(t) })
	c.start(t)
	return c
}

// authorize writes a file of headers that shows a token.
func (c *otelcol) authorize(t *testing.T, name, token string) string {
	t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte("Authorization: Bearer "+token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (c *otelcol) start(t *testing.T) {
	t.Helper()
	memory := "limit_mib: 4000"
	if c.config.full {
		memory = "limit_mib: 1"
	}
	text := fmt.Sprintf(`
extensions: {bearertokenauth: {token: %[1]s}}
receivers:
  otlp:
    protocols:
      http:
        endpoint: %[2]s
        max_request_body_size: %[3]d
        auth: {authenticator: bearertokenauth}
        tls: {cert_file: %[4]s/cert.pem, key_file: %[4]s/key.pem}
processors: {memory_limiter: {check_interval: 100ms, %[5]s}}
exporters: {file: {path: %[4]s/out, append: true, flush_interval: 10ms}}
service:
  extensions: [bearertokenauth]
  telemetry: {metrics: {level: none}}
  pipelines: {logs: {receivers: [otlp], processors: [memory_limiter], exporters: [file]}}
`, collectorToken, c.address, c.config.maxBody, c.dir, memory)
	config := filepath.Join(c.dir, "config.yaml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	output := must(os.OpenFile(filepath.Join(c.dir, "stderr"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600))(t)
	defer output.Close()
	c.cmd = exec.Command("otelcol", "--config", config) // of scripts/peers
	c.cmd.Stdout, c.cmd.Stderr = output, output
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the collector listens", func() bool {
		conn, err := net.Dial("tcp", c.address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// stop ends the collector as an operator does, so that it writes what it has taken.
func (c *otelcol) stop(t *testing.T) {
	if c.cmd == nil {
		return
	}
	c.cmd.Process.Signal(syscall.SIGTERM)
	c.cmd.Wait()
	c.cmd = nil
	if t.Failed() {
		text, _ := os.ReadFile(filepath.Join(c.dir, "stderr"))
		t.Logf("the collector says %s", text)
	}
}

func (c *otelcol) target(more string) string {
	return "otlp+https://" + c.address + "?ca=" + c.dir + "/ca.pem&headers=" + c.headers + more
}

// understood is a record as the collector has it.
type understood struct {
	resource, attributes map[string]any
	scope                string

	TimeUnixNano, ObservedTimeUnixNano, SeverityText, EventName string
	SeverityNumber                                              int
	Body                                                        value
	Attributes                                                  []attribute
}

type attribute struct {
	Key   string
	Value value
}

// value is a value as JSON has it, in which whole numbers are texts.
type value struct {
	StringValue *string
	IntValue    *string
	BoolValue   *bool
}

func (v value) plain() any {
	switch {
	case v.StringValue != nil:
		return *v.StringValue
	case v.IntValue != nil:
		n, _ := strconv.ParseFloat(*v.IntValue, 64)
		return n
	case v.BoolValue != nil:
		return *v.BoolValue
	}
	return nil
}

func plain(all []attribute) map[string]any {
	m := make(map[string]any)
	for _, a := range all {
		m[strings.TrimPrefix(a.Key, "sallyport.")] = a.Value.plain()
	}
	return m
}

// records are those that it has, in the order in which they came.
func (c *otelcol) records(t *testing.T) (all []understood) {
	t.Helper()
	f, err := os.Open(filepath.Join(c.dir, "out"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil { // the last is perhaps being written
			return all
		}
		var batch struct {
			ResourceLogs []struct {
				Resource  struct{ Attributes []attribute }
				ScopeLogs []struct {
					Scope      struct{ Name, Version string }
					LogRecords []understood
				}
			}
		}
		if err := json.Unmarshal(line, &batch); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		for _, r := range batch.ResourceLogs {
			for _, s := range r.ScopeLogs {
				for _, l := range s.LogRecords {
					l.resource, l.attributes, l.scope = plain(r.Resource.Attributes), plain(l.Attributes), s.Scope.Name+" "+s.Scope.Version
					all = append(all, l)
				}
			}
		}
	}
}

// ids are the numbers of a team's events that it has, in the order in which they came.
func (c *otelcol) ids(t *testing.T, team string) (ids []int) {
	t.Helper()
	for _, r := range c.records(t) {
		if r.attributes["team"] == team {
			ids = append(ids, int(r.attributes["id"].(float64)))
		}
	}
	return ids
}

// upTo are the numbers of n events.
func upTo(n int) (ids []int) {
	for id := range n {
		ids = append(ids, id+1)
	}
	return ids
}

// TestPeerCollectorUnderstands: a collector has every kind of event whole, by the names that the docs give.
func TestPeerCollectorUnderstands(t *testing.T) {
	c := newCollector(t, otelConfig{})
	receiver := newOTLP(must(ParseTarget(c.target("")))(t), Sender{"replica.test", "v1"})
	defer receiver.Close()
	events := samples()
	if err := receiver.Send(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has written them", func() bool { return len(c.records(t)) >= len(events) })
	got := c.records(t)
	if len(got) != len(events) {
		t.Fatalf("of %d it has %d", len(events), len(got))
	}
	resource := map[string]any{"service.name": "sallyport-control", "service.version": "v1", "host.name": "replica.test"}
	for i, e := range events {
		r, severity, text := got[i], 9, "INFO"
		if warned(e) {
			severity, text = 13, "WARN"
		}
		if r.SeverityNumber != severity || r.SeverityText != text || r.EventName != "sallyport.audit."+e.Kind || r.scope != "sallyport.audit v1" ||
			r.TimeUnixNano != fmt.Sprint(e.Time.UnixNano()) || r.ObservedTimeUnixNano != fmt.Sprint(e.RecordedAt.UnixNano()) || !maps.Equal(r.resource, resource) {
			t.Errorf("%s: it has %+v", e.Kind, r)
		}
		want := want(t, e)
		same(t, e.Kind, fmt.Sprint(r.Body.plain()), want)
		if !maps.Equal(r.attributes, want) {
			t.Errorf("%s: the attributes are %v, not %v", e.Kind, r.attributes, want)
		}
	}
}

// TestPeerCollectorHasAllOnce: a big backlog, and what is recorded after it, arrives once and in
// order; also what is recorded while the collector is stopped and started, but for what was on its way then.
func TestPeerCollectorHasAllOnce(t *testing.T) {
	t.Parallel()
	c, p := newCollector(t, otelConfig{}), newPlane(t)
	p.record(t, 600, control.Event{Kind: "act", Actor: "token:x", Detail: strings.Repeat("é", 4000)})
	metric, _ := p.forward(t, p.Store, c.target("&team=billing"))
	eventually(t, "the backlog is accepted", func() bool { return metric("forwarded_total") >= float64(p.count) })
	eventually(t, "it is written", func() bool { return len(c.ids(t, "billing")) >= p.count })
	p.record(t, 50, control.Event{Kind: "act", Actor: "token:x"})
	eventually(t, "so does what follows", func() bool { return len(c.ids(t, "billing")) >= p.count })
	if got := c.ids(t, "billing"); !slices.Equal(got, upTo(p.count)) || metric("forward_errors_total") != 0 {
		t.Errorf("it has %v, after %v errors", got, metric("forward_errors_total"))
	}
	p.record(t, 10, control.Event{Kind: "act", Actor: "token:x"})
	c.stop(t)
	p.record(t, 10, control.Event{Kind: "act", Actor: "token:x"})
	eventually(t, "that it is away is an error", func() bool { return metric("forward_errors_total") > 0 })
	c.start(t)
	eventually(t, "all arrives", func() bool { return slices.Contains(c.ids(t, "billing"), p.count) })
	got := c.ids(t, "billing")
	slices.Sort(got)
	if !slices.Equal(slices.Compact(got), upTo(p.count)) || metric("forward_lost_total") != 0 {
		t.Errorf("it has %v", got)
	}
}

// TestPeerCollectorRefuses: what a collector does not take because it has no memory left, does not know us, or is
// not known to us, waits until that is mended, once and in order.
func TestPeerCollectorRefuses(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, c *otelcol) (says, headers string, mend func()){
		"no memory": func(t *testing.T, c *otelcol) (string, string, func()) {
			c.stop(t)
			c.config.full = true
			c.start(t)
			return "answers 503", c.headers, func() { c.stop(t); c.config.full = false; c.start(t) }
		},
		"another token": func(t *testing.T, c *otelcol) (string, string, func()) {
			wrong := c.authorize(t, "wrong", "another-0123456789")
			return "answers 401 Unauthorized: give it what it wants in headers=FILE", wrong, func() { c.authorize(t, "wrong", collectorToken) }
		},
		"another CA": func(t *testing.T, c *otelcol) (string, string, func()) {
			trusted := must(os.ReadFile(filepath.Join(c.dir, "ca.pem")))(t)
			c.stop(t)
			certificates(t, c.dir)
			made := must(os.ReadFile(filepath.Join(c.dir, "ca.pem")))(t)
			c.start(t)
			if err := os.WriteFile(filepath.Join(c.dir, "ca.pem"), trusted, 0o600); err != nil {
				t.Fatal(err)
			}
			return "name the CA that made its certificate with ca=FILE", c.headers, func() {
				if err := os.WriteFile(filepath.Join(c.dir, "ca.pem"), made, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		},
		"another path": func(t *testing.T, c *otelcol) (string, string, func()) { return "answers 404", "", func() {} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, p := newCollector(t, otelConfig{}), newPlane(t)
			p.record(t, 20, control.Event{Kind: "act", Actor: "token:x"})
			says, headers, mend := spoil(t, c)
			target := strings.Replace(c.target("&name=siem&team=billing"), c.headers, headers, 1)
			if name == "another path" {
				target = strings.Replace(c.target("&name=siem&team=billing"), "?", "/v1/nothing?", 1)
			}
			receiver := newOTLP(must(ParseTarget(target))(t), Sender{"h", "v"})
			defer receiver.Close()
			probe := samples()[:1]
			probe[0].Team = "another"
			eventually(t, "it says why", func() bool {
				err := receiver.Send(t.Context(), probe)
				if err != nil && strings.Contains(err.Error(), collectorToken) {
					t.Fatal(err)
				}
				return err != nil && strings.Contains(err.Error(), says)
			})
			metric, stop := p.forward(t, p.Store, target)
			eventually(t, "it fails", func() bool { return metric("forward_errors_total") >= 3 })
			stop()
			if n := metric("forward_lost_total") + metric("forwarded_total"); n != 0 {
				t.Errorf("%v were sent or lost", n)
			}
			mend()
			metric, _ = p.forward(t, p.Store, c.target("&name=siem&team=billing"))
			eventually(t, "all arrives", func() bool { return len(c.ids(t, "billing")) >= p.count })
			if got := c.ids(t, "billing"); !slices.Equal(got, upTo(p.count)) || metric("forward_lost_total") != 0 {
				t.Errorf("it has %v", got)
			}
		})
	}
}

// TestPeerCollectorSkips: a collector takes no request of more than so many bytes. Batches get smaller, and an event that
// is larger by itself is skipped.
func TestPeerCollectorSkips(t *testing.T) {
	t.Parallel()
	c, p := newCollector(t, otelConfig{maxBody: 8 << 10}), newPlane(t)
	p.record(t, 60, control.Event{Kind: "act", Actor: "token:x"})
	large := p.count + 1
	p.record(t, 1, control.Event{Kind: "act", Actor: "token:x", Detail: strings.Repeat("x", 8000)})
	p.record(t, 20, control.Event{Kind: "act", Actor: "token:x"})
	metric, _ := p.forward(t, p.Store, c.target("&name=siem&team=billing"))
	eventually(t, "what comes after it arrives, and that it is skipped", func() bool { return slices.Contains(c.ids(t, "billing"), p.count+1) })
	got := c.ids(t, "billing")
	want := slices.Delete(upTo(p.count+1), large-1, large)
	once := slices.Clone(got)
	slices.Sort(once)
	if !slices.Equal(slices.Compact(once), want) || len(got) != len(want)+1 { // the last before it is sent again, to see that others are taken
		t.Errorf("it has %v", got)
	}
	if n := metric("forward_lost_total"); n != 1 || !slices.Equal(p.notes(t), []string{fmt.Sprintf("event %d: not with the receiver siem, as it answers 400", large)}) {
		t.Errorf("%v are lost; the chain says %q", n, p.notes(t))
	}
}
