package smuggle_test

import (
	"slices"
	"testing"
	"time"
)

// settle is how long an origin may take to record what was broken off.
const settle = 300 * time.Millisecond

// claim keeps the chains that talk to an origin, for compare.
func (o *origin) claim(c *chain) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.chains = append(o.chains, c)
}

// compare holds the three accounts against each other, of all that was said to o.
func (o *origin) compare(t *testing.T) {
	time.Sleep(settle)
	o.mu.Lock()
	defer o.mu.Unlock()
	records, sent := map[string]account{}, map[string]written{}
	for _, c := range o.chains {
		for _, a := range c.since(0) {
			records[a.ID] = a
		}
		c.mu.Lock()
		taps := slices.Clone(c.taps)
		c.mu.Unlock()
		for _, tap := range taps {
			o.compareWire(t, tap, records, sent)
		}
	}
	for id, a := range records {
		if w, found := sent[id]; a.forwarded && a.Reason == "" && (!found || !w.whole && !a.answeredEarly()) {
			t.Errorf("%s: vector %d: %s %s is recorded as forwarded, and was not written upstream", o.name, a.vector, a.Method, a.Path)
		}
	}
	o.compareSights(t, records, sent)
}

// idempotent methods may be tried again (RFC 9110 section 9.2.2).
var idempotent = []string{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}

// answeredEarly reports whether the upstream may have answered, with a status
// of its own, before it had the whole request.
func (a account) answeredEarly() bool { return !a.seen && a.Status >= 400 }

// compareWire reads both directions of an upstream connection.
func (o *origin) compareWire(t *testing.T, tap *tap, records map[string]account, sent map[string]written) {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	requests, err := readWritten(tap.sent)
	if err != nil {
		t.Errorf("%s: an upstream connection carries a bad request: %v", o.name, err)
	}
	var methods []string
	for _, w := range requests {
		a, found := records[w.exchange]
		switch {
		case !found || !a.forwarded:
			t.Errorf("%s: %+v was written upstream, of which there is no record", o.name, w)
		case w.method != a.Method || token.FindString(w.target) != token.FindString(a.Path):
			t.Errorf("%s: %+v was written upstream, the record says %s %s", o.name, w, a.Method, a.Path)
		case w.whole && a.Reason == "" && w.length != int64(a.RequestBytes):
			t.Errorf("%s: vector %d: %d bytes of body were written upstream, %d were read", o.name, a.vector, w.length, a.RequestBytes)
		}
		methods = append(methods, w.method)
	}
	answers, rest, err := readAnswers(tap.received, methods)
	if err != nil || len(rest) > 0 {
		t.Errorf("%s: %d requests had %d answers (%v), and then came %.300q; sent: %.3000q", o.name, len(requests), len(answers), err, rest, tap.sent[max(0, len(tap.sent)-3000):])
	}
	for i, w := range requests {
		w.answered = i < len(answers)
		// A connection that the upstream had closed already is tried again.
		if before, twice := sent[w.exchange]; twice && (before.answered && w.answered || !slices.Contains(idempotent, w.method)) {
			t.Errorf("%s: %+v was written upstream twice", o.name, w)
		}
		if before, twice := sent[w.exchange]; !twice || !before.answered {
			sent[w.exchange] = w
		}
	}
	for i, got := range answers {
		if got.seen != "" && got.seen != requests[i].exchange {
			t.Errorf("%s: response %d of a connection is for another request", o.name, i)
		}
	}
}

// compareSights holds what the application saw against what was sent.
func (o *origin) compareSights(t *testing.T, records map[string]account, sent map[string]written) {
	times := map[string]int{}
	for _, s := range o.sights {
		if len(s.Exchange) != 1 || !slices.Equal(s.Key, []string{canary}) {
			t.Errorf("%s saw %+v: not one record with one credential", o.name, s)
			continue
		}
		id := s.Exchange[0]
		times[id]++
		w, found := sent[id]
		switch {
		case found && o.own != nil && o.own(s, w) != "":
		case !found || !w.whole:
			t.Errorf("%s saw %+v, which was not sent whole", o.name, s)
		case s.Method != w.method || token.FindString(s.Target) != token.FindString(w.target) || s.Length != w.length:
			t.Errorf("%s saw %+v, sent was %+v", o.name, s, w)
		}
	}
	for id, a := range records {
		if n := times[id]; n > 1 || a.seen && n != 1 {
			t.Errorf("%s: vector %d: %s %s was seen %d times", o.name, a.vector, a.Method, a.Path, n)
		}
	}
	t.Logf("%s: %d records, %d sent, %d seen", o.name, len(records), len(sent), len(o.sights))
}
