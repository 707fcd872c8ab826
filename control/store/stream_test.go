package store

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"sallyport/control"
	"sallyport/control/api"
)

// TestOpenings opens a sandbox's stream as its worker would, and as somebody would
// who has a copy of the identity.
func TestOpenings(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	for name, test := range map[string]struct {
		openings []api.Opening // all but the last are the worker's own, and good
		want     control.Code
		state    control.SandboxState
	}{
		"one after another":              {[]api.Opening{{Worker: 1, Stream: 1}, {Worker: 1, Stream: 2}}, "", control.SandboxEnrolled},
		"with attempts that were lost":   {[]api.Opening{{Worker: 1, Stream: 1}, {Worker: 1, Stream: 5000}}, "", control.SandboxEnrolled},
		"by the next worker":             {[]api.Opening{{Worker: 1, Stream: 7}, {Worker: 2, Stream: 1}}, "", control.SandboxEnrolled},
		"an attempt that arrives late":   {[]api.Opening{{Worker: 1, Stream: 7}, {Worker: 1, Stream: 6}}, control.CodeUnavailable, control.SandboxEnrolled},
		"the same twice":                 {[]api.Opening{{Worker: 1, Stream: 7}, {Worker: 1, Stream: 7}}, control.CodeForbidden, control.SandboxLocked},
		"far behind":                     {[]api.Opening{{Worker: 1, Stream: 70}, {Worker: 1, Stream: 8}}, control.CodeForbidden, control.SandboxLocked},
		"by a worker that had its day":   {[]api.Opening{{Worker: 2, Stream: 1}, {Worker: 1, Stream: 8}}, control.CodeForbidden, control.SandboxLocked},
		"the worker's own, after a leap": {[]api.Opening{{Worker: 1, Stream: 1 << 40}, {Worker: 1, Stream: 2}}, control.CodeForbidden, control.SandboxLocked},
	} {
		t.Run(name, func(t *testing.T) {
			b := f.sandbox("billing")
			before := strings.Count(f.kinds(), "sandbox.lock")
			open := func(o api.Opening) error {
				_, err := f.OpenStream(t.Context(), f.Team.ID, Opening{b.ID, hash("key"), o}, "replica")
				return err
			}
			last := len(test.openings) - 1
			for _, o := range test.openings[:last] {
				if err := open(o); err != nil {
					t.Fatal(err)
				}
			}
			if err := open(test.openings[last]); control.CodeOf(err) != test.want {
				t.Errorf("got %v", err)
			}
			if b = got(f.Sandbox(t.Context(), f.Team.ID, b.ID))(t); b.State != test.state {
				t.Errorf("the sandbox is %s", b.State)
			}
			if locked := strings.Count(f.kinds(), "sandbox.lock") > before; locked != (test.state == control.SandboxLocked) {
				t.Errorf("events %q", f.kinds())
			}
		})
	}
}

// TestOneOpeningOnce: of many who open it the same time, one gets the stream, and nobody keeps it.
func TestOneOpeningOnce(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	b := f.sandbox("billing")
	var group sync.WaitGroup
	sessions := make(chan Session, 50)
	for i := range cap(sessions) {
		group.Go(func() {
			if s, err := f.OpenStream(t.Context(), f.Team.ID, Opening{b.ID, hash("key"), api.Opening{Worker: 1, Stream: 1}}, fmt.Sprint(i)); err == nil {
				sessions <- s
			}
		})
	}
	group.Wait()
	if len(sessions) != 1 {
		t.Fatalf("%d hold the stream", len(sessions))
	}
	if b := got(f.Sandbox(t.Context(), f.Team.ID, b.ID))(t); b.State != control.SandboxLocked {
		t.Errorf("the sandbox is %s", b.State)
	}
}
