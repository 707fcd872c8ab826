package outside

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/e2e"
)

// upstream is the host that the credential is for. It tells whoever asks what it was
// told.
type upstream struct {
	bare atomic.Pointer[string] // a request without the credential

	mu     sync.Mutex
	seen   []string // paths of requests with it
	latest time.Time
}

func newUpstream(w *e2e.World) *upstream {
	u := &upstream{}
	w.OriginServer(drainHost, u, "h2", "http/1.1")
	return u
}

func (u *upstream) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	authorization := r.Header.Get("Authorization")
	if authorization != "Bearer "+drainKey {
		said := r.URL.Path + ": " + authorization
		u.bare.Store(&said)
	}
	u.mu.Lock()
	u.seen = append(u.seen, r.URL.Path)
	u.latest = time.Now()
	u.mu.Unlock()
	fmt.Fprintf(rw, "authorization: %s\n", authorization)
}

func (u *upstream) paths() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string(nil), u.seen...)
}

// last is when the last request came.
func (u *upstream) last() time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.latest
}

func (u *upstream) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen = nil
}
