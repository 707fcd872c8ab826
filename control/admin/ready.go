package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// readyTimeout bounds the question to the database.
	readyTimeout = 2 * time.Second
	// readyFor is how long a verdict stands: the question takes no token, so the database
	// is not asked as often as it comes.
	readyFor = time.Second
	// sameTime is how far the database's clock may be from this machine's.
	sameTime = 10 * time.Second
)

// verdict is what keeps the control plane from serving, and what it can't do though it
// serves: with degraded audit it refuses leases and changes, and reads go on; with a
// degraded clock it does all, and what ends by the one clock does not by the other.
type verdict struct {
	Ready    bool     `json:"ready"`
	Blockers []string `json:"blockers"`
	Degraded []string `json:"degraded,omitempty"`
}

// readiness is the last verdict. Those who ask at once wait for one question.
type readiness struct {
	flight singleflight.Group
	mu     sync.Mutex
	last   verdict
	until  time.Time
}

func (r *readiness) standing() (verdict, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, time.Now().Before(r.until)
}

// verdict is the last one while it stands, or else what ask says, which is called once
// at a time.
func (r *readiness) verdict(ask func() verdict) verdict {
	if v, stands := r.standing(); stands {
		return v
	}
	v, _, _ := r.flight.Do("", func() (any, error) {
		if v, stands := r.standing(); stands {
			return v, nil
		}
		v := ask()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.last, r.until = v, time.Now().Add(readyFor)
		return v, nil
	})
	return v.(verdict)
}

func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	// Others wait for what this one asks, so it is not broken off with it.
	v := s.ready.verdict(func() verdict { return s.askReady(context.WithoutCancel(r.Context())) })
	w.Header().Set("Content-Type", "application/json")
	if !v.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(v)
}

func (s *Server) askReady(ctx context.Context) verdict {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	v := verdict{Blockers: []string{}}
	if err := s.Store.Ping(ctx); err != nil {
		s.Log.Warn("not ready", "blocker", "database", "error", err)
		v.Blockers = append(v.Blockers, "database")
	}
	if ahead, err := s.Store.Ahead(ctx); err == nil && ahead.Abs() > sameTime {
		s.Log.Warn("the database's clock and this machine's are apart: one of them is wrong", "database_ahead", ahead.Round(time.Second))
		v.Degraded = append(v.Degraded, "clock")
	}
	if err := s.Store.Degraded(); err != nil {
		s.Log.Warn("audit degraded: what can't be recorded is refused", "error", err)
		v.Degraded = append(v.Degraded, "audit")
	}
	v.Ready = len(v.Blockers) == 0
	return v
}
