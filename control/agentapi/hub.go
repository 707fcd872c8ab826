package agentapi

import (
	"sync"
	"time"
)

// hub tells the streams of this process that their team changed. It keeps one
// bit and a time for each, never a queue.
type hub struct {
	mu      sync.Mutex
	streams map[string]*subscription // by sandbox
	closed  bool
}

// subscription is one stream's place in the hub.
type subscription struct {
	team, sandbox string
	changed       chan change   // holds what has not been seen yet
	ended         chan struct{} // closed when the stream must end
	why           ending
}

// change is one or several changes that a stream was told of.
type change struct {
	first, last time.Time // announced
	alone       bool      // one of them concerns this sandbox only
}

// ending is why a hub ends a stream.
type ending string

const (
	endReplaced ending = "this sandbox has opened another stream"
	endDraining ending = "this replica of the control plane is going down"
)

func newHub() *hub { return &hub{streams: make(map[string]*subscription)} }

// join makes a stream known. The newest stream of a sandbox is the only one: an
// older one, of a connection that died unseen perhaps, ends.
func (h *hub) join(team, sandbox string) *subscription {
	s := &subscription{team: team, sandbox: sandbox, changed: make(chan change, 1), ended: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		s.end(endDraining)
		return s
	}
	if old := h.streams[sandbox]; old != nil {
		old.end(endReplaced)
	}
	h.streams[sandbox] = s
	return s
}

// leave forgets a stream.
func (h *hub) leave(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[s.sandbox] == s {
		delete(h.streams, s.sandbox)
	}
}

// notify tells the team's streams, or that of one sandbox, or with "" all of them.
func (h *hub) notify(team, sandbox string) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if sandbox != "" {
		if s := h.streams[sandbox]; s != nil {
			s.tell(change{now, now, true})
		}
		return
	}
	for _, s := range h.streams {
		if team == "" || s.team == team {
			s.tell(change{now, now, false})
		}
	}
}

// tell is called under the hub's lock. The newest snapshot serves all changes.
func (s *subscription) tell(c change) {
	select {
	case before := <-s.changed:
		c.first, c.alone = before.first, c.alone || before.alone
	default:
	}
	s.changed <- c
}

// close ends every stream, and those that come later.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for sandbox, s := range h.streams {
		s.end(endDraining)
		delete(h.streams, sandbox)
	}
}

func (h *hub) size() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.streams)
}

// end is called once, under the hub's lock: by whoever takes s out of the map.
func (s *subscription) end(why ending) {
	s.why = why
	close(s.ended)
}
