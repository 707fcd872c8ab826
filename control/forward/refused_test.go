package forward

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"sallyport/control"
	"sallyport/control/store"
)

const poison = "poison"

func poisoned(texts []string) bool {
	return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, poison) })
}

// notes are the details of the team's events that tell of what a receiver refused.
func (p *plane) notes(t *testing.T) (notes []string) {
	t.Helper()
	events, _, err := p.Events(t.Context(), p.team.ID, store.Page{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range slices.Backward(events) {
		if e.Kind == "audit.refused" {
			notes = append(notes, e.Detail)
		}
	}
	return notes
}

// TestRefusedEventIsSkipped: an event that a receiver refuses by itself while it takes others
// keeps not even its own team's waiting; that it is missing is counted, and in the team's chain.
func TestRefusedEventIsSkipped(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]struct{ status, events int }{
		"invalid": {400, 3}, "too large": {413, 3}, "a collector whose exporter refuses": {500, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, n := refusal.status, refusal.events
			c := &collecting{got: map[string]string{}}
			server := httptest.NewServer(c)
			defer server.Close()
			c.refuse = func(texts []string) int {
				if poisoned(texts) {
					return status
				}
				return 0
			}
			p := newPlane(t)
			p.record(t, 10, control.Event{Kind: "act", Actor: "token:x"})
			p.record(t, n, control.Event{Kind: "act", Actor: "token:x", Detail: poison})
			refused := p.count
			p.record(t, 5, control.Event{Kind: "act", Actor: "token:x"})
			metric, _ := p.forward(t, p.Store, "otlp+"+server.URL+"?team=billing&name=siem")
			eventually(t, "what comes after it arrives", func() bool { return c.has(p.count) })
			eventually(t, "it is not behind", func() bool { return metric("forward_lag_events") == 0 })
			for id := 1; id <= p.count; id++ {
				if c.has(id) != (id <= refused-n || id > refused) {
					t.Errorf("of event %d it is %t that it has it", id, c.has(id))
				}
			}
			if lost := metric("forward_lost_total"); lost != float64(n) {
				t.Errorf("%v are counted as lost", lost)
			}
			notes := p.notes(t)
			if len(notes) != n || notes[n-1] != fmt.Sprintf("event %d: not with the receiver siem, as it answers %d", refused, status) {
				t.Errorf("the chain says %q", notes)
			}
			eventually(t, "the receiver hears of it", func() bool { return c.has(p.count + n) })
		})
	}
}

// TestRefusingReceiverLosesNothing: one that refuses every event, because of how it or the forwarder is
// set up, has all of them when that is mended.
func TestRefusingReceiverLosesNothing(t *testing.T) {
	t.Parallel()
	for status, often := range map[int]int{400: 9, 413: 9, 422: 9, 500: 7, 401: 2, 403: 2, 404: 2, 415: 2, 429: 2, 501: 2, 503: 2, 308: 2} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			c := &collecting{got: map[string]string{}}
			server := httptest.NewServer(c)
			defer server.Close()
			p := newPlane(t)
			p.record(t, 4, control.Event{Kind: "act", Actor: "token:x"})
			metric, _ := p.forward(t, p.Store, "otlp+"+server.URL)
			eventually(t, "what is first arrives", func() bool { return c.has(p.count) })
			tried := 0
			c.set(func(w http.ResponseWriter, r *http.Request) bool { tried++; w.WriteHeader(status); return false })
			p.record(t, 6, control.Event{Kind: "act", Actor: "token:x"})
			eventually(t, "it is tried often", func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return tried >= often
			})
			c.set(nil)
			eventually(t, "all arrives", func() bool { return c.has(p.count) })
			for id := 1; id <= p.count; id++ {
				if !c.has(id) {
					t.Errorf("it lacks event %d", id)
				}
			}
			if n := metric("forward_lost_total"); n != 0 || len(p.notes(t)) != 0 {
				t.Errorf("%v are counted as lost; the chain says %q", n, p.notes(t))
			}
		})
	}
}

// TestRefusedAtTheStart: a forwarder that has sent nothing yet finds out as well that it
// is an event, and no more than that, which the receiver refuses.
func TestRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	c := &collecting{got: map[string]string{}}
	server := httptest.NewServer(c)
	defer server.Close()
	p := newPlane(t)
	_, stop := p.forward(t, p.Store, "otlp+"+server.URL+"?team=billing&name=siem")
	eventually(t, "the first arrives", func() bool { return c.has(p.count) })
	stop()
	c.mu.Lock()
	c.refuse = func(texts []string) int {
		if poisoned(texts) {
			return 400
		}
		return 0
	}
	c.mu.Unlock()
	p.record(t, 2, control.Event{Kind: "act", Actor: "token:x", Detail: poison})
	p.record(t, 1, control.Event{Kind: "act", Actor: "token:x"})
	metric, _ := p.forward(t, p.Store, "otlp+"+server.URL+"?team=billing&name=siem")
	eventually(t, "what comes after it arrives", func() bool { return c.has(p.count) })
	eventually(t, "they are counted", func() bool { return metric("forward_lost_total") == 2 })
}

// TestPartialSuccess: what a receiver rejects of a batch is in the chain, and no more than
// that; a receiver that rejects always has no event made for each that tells of it.
func TestPartialSuccess(t *testing.T) {
	t.Parallel()
	c := &collecting{got: map[string]string{}}
	server := httptest.NewServer(c)
	defer server.Close()
	answers := 0
	c.answer = func(w http.ResponseWriter, r *http.Request) bool {
		answers++
		w.Header().Set("Content-Type", "application/x-protobuf")
		answer, _ := proto.Marshal(&collector.ExportLogsServiceResponse{PartialSuccess: &collector.ExportLogsPartialSuccess{RejectedLogRecords: 1 << 62, ErrorMessage: "no\nthanks"}})
		w.Write(answer)
		return false
	}
	p := newPlane(t)
	p.record(t, 4, control.Event{Kind: "act", Actor: "token:x"})
	metric, _ := p.forward(t, p.Store, "otlp+"+server.URL+"?team=billing&name=siem")
	eventually(t, "they are counted, and the note of them", func() bool { return metric("forward_lost_total") == 6 })
	if notes := p.notes(t); len(notes) != 1 || strings.Contains(notes[0], "thanks") || !strings.HasPrefix(notes[0], "5 of events 1 to 5: ") {
		t.Errorf("the chain says %q", notes)
	}
	eventually(t, "it is not behind", func() bool { return metric("forward_lag_events") == 0 })
	if n := metric("forwarded_total"); n != 0 {
		t.Errorf("%v count as forwarded", n)
	}
}

// TestFatalEventHoldsUpNoOther: an event that ends the receiver's connection keeps no other team's waiting.
func TestFatalEventHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	c := &collecting{got: map[string]string{}}
	server := httptest.NewServer(c)
	defer server.Close()
	c.refuse = func(texts []string) int {
		if poisoned(texts) {
			panic(http.ErrAbortHandler)
		}
		return 0
	}
	p := newPlane(t)
	p.record(t, 4, control.Event{Kind: "act", Actor: "token:x"})
	before := p.count
	p.record(t, 1, control.Event{Kind: "act", Actor: "token:x", Detail: poison})
	metric, _ := p.forward(t, p.Store, "otlp+"+server.URL)
	c.beside(t, p, 550)
	eventually(t, "those before it arrive", func() bool { return c.has(before) })
	if c.has(before+1) || metric("forward_lost_total") != 0 {
		t.Errorf("taken %t, %v lost", c.has(before+1), metric("forward_lost_total"))
	}
}

// TestHeldUpUntilTheReceiverRefuses: an event that is only ever answered 503 is not skipped, and holds its
// team's later ones up, which is seen, until the receiver refuses it for good.
func TestHeldUpUntilTheReceiverRefuses(t *testing.T) {
	t.Parallel()
	status := 503
	c := &collecting{got: map[string]string{}}
	c.refuse = func(texts []string) int {
		if poisoned(texts) {
			return status
		}
		return 0
	}
	server := httptest.NewServer(c)
	defer server.Close()
	p := newPlane(t)
	metric, _ := p.forward(t, p.Store, "otlp+"+server.URL+"?team=billing&name=siem")
	eventually(t, "the first arrives", func() bool { return c.has(p.count) })
	p.record(t, 1, control.Event{Kind: "act", Actor: "token:x", Detail: poison})
	held := p.count
	p.record(t, 2, control.Event{Kind: "act", Actor: "token:x"})
	eventually(t, "it is tried again", func() bool { return metric("forward_errors_total") >= 2 })
	if c.has(p.count) || len(p.notes(t)) != 0 || metric("forward_lag_seconds") == 0 {
		t.Errorf("later ones arrived: %t, skipped: %q, lag %v s", c.has(p.count), p.notes(t), metric("forward_lag_seconds"))
	}
	c.mu.Lock()
	status = 400
	c.mu.Unlock()
	eventually(t, "later ones arrive", func() bool { return c.has(p.count) })
	if want := fmt.Sprintf("event %d: not with the receiver siem, as it answers 400", held); !slices.Equal(p.notes(t), []string{want}) {
		t.Errorf("the chain says %q, want %q", p.notes(t), want)
	}
}
