package proxy

import (
	"context"
	"net/http"
	"time"
)

// WithFacts is what ConnContext does for a real connection.
func WithFacts(ctx context.Context, facts Facts) context.Context {
	return context.WithValue(ctx, factsKey{}, facts)
}

// SetUpstreamTime sets the clock that upstream certificates are checked by.
func (s *Server) SetUpstreamTime(now func() time.Time) {
	s.upstreams.now = now
}

// SetUpstreamBounds sets what else takes minutes or hundreds of connections to meet.
func (s *Server) SetUpstreamBounds(answer, queue time.Duration, perHost int) {
	s.upstreams.bounds.answer, s.upstreams.bounds.queue, s.upstreams.bounds.perHost = answer, queue, perHost
}

// UpstreamPlaces is how many places are known for requests without a credential.
func (s *Server) UpstreamPlaces() int {
	pool, err := s.upstreams.pool(poolKey{})
	if err != nil {
		panic(err) // there is always one without a credential
	}
	wires := &pool.wires
	wires.mu.Lock()
	defer wires.mu.Unlock()
	return len(wires.places)
}

// CheckWebSocket judges a handshake that would carry a credential.
func CheckWebSocket(r *http.Request) error {
	if refusal := checkWebSocket(r); refusal != nil {
		return refusal
	}
	return nil
}

// SetLoad sets how many requests may be under way, and how many bytes of heap are
// too many.
func (s *Server) SetLoad(requests int, bytes uint64) {
	s.load.mu.Lock()
	defer s.load.mu.Unlock()
	s.load.most = requests
	s.load.bytes.Store(bytes)
}

// Waiting is how many requests that were decided about wait to be sent.
func (s *Server) Waiting() int {
	s.departures.mu.Lock()
	defer s.departures.mu.Unlock()
	return len(s.departures.open)
}
