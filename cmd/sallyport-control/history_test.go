package main

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// call is one for a sandbox.
type call struct {
	sandbox string
	kind    kind
	alone   bool // nobody else had the join token
}

type kind string

const (
	enrol  kind = "enrol"
	fetch  kind = "fetch"
	revoke kind = "revoke"
)

// answer is what came of a call. One that is unknown was perhaps carried out.
type answer string

const (
	done    answer = "done"
	denied  answer = "denied"
	unknown answer = "unknown"
)

// life is how far a sandbox has come: made, its join token used, revoked or locked.
type life int

const (
	pending life = iota
	joined
	over
)

// sandboxModel is what calls for a sandbox may do, one after another.
var sandboxModel = porcupine.NondeterministicModel{
	Partition: bySandbox,
	Init:      func() []any { return []any{pending} },
	Step: func(state, input, output any) (next []any) {
		for _, now := range step(state.(life), input.(call), output.(answer)) {
			next = append(next, now)
		}
		return next
	},
}

// step is where a sandbox may be after a call with such an answer; nowhere when there
// can be no such answer.
func step(now life, c call, a answer) []life {
	if a == unknown {
		return append(step(now, c, done), append(step(now, c, denied), now)...)
	}
	switch {
	case c.kind == revoke && a == done:
		return []life{over}
	case c.kind == fetch && a == done && now == joined, c.kind == fetch && a == denied && now == over:
		return []life{now}
	case c.kind == enrol && a == done && now == pending:
		return []life{joined}
	// A second use locks the sandbox, perhaps before the first has had its answer,
	// which then is a refusal too.
	case c.kind == enrol && a == denied && (now != pending || !c.alone):
		return []life{over}
	}
	return nil
}

func bySandbox(all []porcupine.Operation) (parts [][]porcupine.Operation) {
	at := map[string]int{}
	for _, o := range all {
		id := o.Input.(call).sandbox
		if _, known := at[id]; !known {
			at[id] = len(parts)
			parts = append(parts, nil)
		}
		parts[at[id]] = append(parts[at[id]], o)
	}
	return parts
}

// history is what many clients asked for and were answered.
type history struct {
	began time.Time

	mu  sync.Mutex
	all []porcupine.Operation
}

// record notes a call. What nobody knows the end of may happen at any time from then on.
func (h *history) record(c call, do func() answer) answer {
	o := porcupine.Operation{Input: c, Call: time.Since(h.began).Nanoseconds()}
	a := do()
	o.Output, o.Return = a, time.Since(h.began).Nanoseconds()
	if a == unknown {
		o.Return = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, o)
	return a
}

// count is how often a kind of call had an answer.
func (h *history) count(k kind, a answer) (n int) {
	for _, o := range h.all {
		if o.Input.(call).kind == k && o.Output == a {
			n++
		}
	}
	return n
}

// check fails the test unless the calls for each sandbox can have happened one after
// another, each at some moment before its answer.
func (h *history) check(t *testing.T) {
	t.Helper()
	for _, part := range bySandbox(h.all) {
		if !porcupine.CheckOperations(sandboxModel.ToModel(), part) {
			t.Errorf("no order explains these answers: %+v", part)
		}
	}
}

// TestModel: the model finds what must not be.
func TestModel(t *testing.T) {
	at := func(c call, a answer, from, to int64) porcupine.Operation {
		return porcupine.Operation{Input: c, Output: a, Call: from, Return: to}
	}
	for name, c := range map[string]struct {
		history []porcupine.Operation
		legal   bool
	}{
		"one wins":                        {[]porcupine.Operation{at(call{kind: enrol}, done, 1, 4), at(call{kind: enrol}, denied, 2, 3)}, true},
		"nobody wins":                     {[]porcupine.Operation{at(call{kind: enrol}, denied, 1, 4), at(call{kind: enrol}, denied, 2, 3)}, true},
		"two win":                         {[]porcupine.Operation{at(call{kind: enrol}, done, 1, 4), at(call{kind: enrol}, done, 2, 3)}, false},
		"one wins a token that was used":  {[]porcupine.Operation{at(call{kind: enrol}, denied, 1, 2), at(call{kind: enrol}, done, 3, 4)}, false},
		"the only one is refused":         {[]porcupine.Operation{at(call{kind: enrol, alone: true}, denied, 1, 2)}, false},
		"material":                        {[]porcupine.Operation{at(call{kind: enrol}, done, 1, 2), at(call{kind: fetch}, done, 3, 4), at(call{kind: revoke}, done, 5, 6), at(call{kind: fetch}, denied, 7, 8)}, true},
		"material after the revocation":   {[]porcupine.Operation{at(call{kind: enrol}, done, 1, 2), at(call{kind: revoke}, done, 3, 4), at(call{kind: fetch}, done, 5, 6)}, false},
		"material after the lock":         {[]porcupine.Operation{at(call{kind: enrol}, done, 1, 2), at(call{kind: enrol}, denied, 3, 4), at(call{kind: fetch}, done, 5, 6)}, false},
		"none without a revocation":       {[]porcupine.Operation{at(call{kind: enrol}, done, 1, 2), at(call{kind: fetch}, denied, 5, 6)}, false},
		"perhaps revoked":                 {[]porcupine.Operation{at(call{kind: enrol}, done, 1, 2), at(call{kind: revoke}, unknown, 3, math.MaxInt64), at(call{kind: fetch}, done, 5, 6), at(call{kind: fetch}, denied, 7, 8)}, true},
		"perhaps revoked, and back again": {[]porcupine.Operation{at(call{kind: enrol}, done, 1, 2), at(call{kind: revoke}, unknown, 3, math.MaxInt64), at(call{kind: fetch}, denied, 5, 6), at(call{kind: fetch}, done, 7, 8)}, false},
	} {
		if got := porcupine.CheckOperations(sandboxModel.ToModel(), c.history); got != c.legal {
			t.Errorf("%s: legal is %v", name, got)
		}
	}
}
