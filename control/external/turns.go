package external

import (
	"context"
	"sync"

	"sallyport/control"
)

// atOnce is how many read of one source at the same time. One that hangs holds up
// nobody but those who wait for it.
const atOnce = 4

// turns are those of each source.
type turns struct {
	mu       sync.Mutex
	bySource map[string]*turn // by its id
}

type turn struct {
	room  chan struct{}
	users int
}

func newTurns() *turns { return &turns{bySource: map[string]*turn{}} }

// take waits for a turn at a source; done ends it.
func (t *turns) take(ctx context.Context, source string) (done func(), err error) {
	t.mu.Lock()
	mine := t.bySource[source]
	if mine == nil {
		mine = &turn{room: make(chan struct{}, atOnce)}
		t.bySource[source] = mine
	}
	mine.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if mine.users--; mine.users == 0 {
			delete(t.bySource, source)
		}
	}
	select {
	case mine.room <- struct{}{}:
		return func() { <-mine.room; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, control.Errorf(control.CodeExchange, "answers slowly, and others wait for it: try again")
	}
}
