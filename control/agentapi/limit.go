package agentapi

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/time/rate"

	"sallyport/control/api"
	"sallyport/control/identity"
)

// pace is how often something may happen: rate a second, burst at once.
type pace struct {
	rate  rate.Limit
	burst int
}

// paces of one sandbox's calls. More is a loop, or somebody who uses what he got
// hold of against those who share the control plane.
var paces = map[string]pace{
	// Once for each credential and version, and again when a lease ages.
	api.SidecarServiceFetchProcedure: {10, 100},
	// Once for some requests with a credential that has a rate or a budget; what is
	// used up is not asked for at every request.
	api.SidecarServiceAllotProcedure: {50, 200},
	// Once for a question, and again every few seconds while a person decides.
	api.SidecarServiceApproveProcedure: {10, 100},
	// At a login, and when a token is made anew; each is pushed to the whole team.
	api.SidecarServiceCaptureProcedure: {1, 20},
	// A few times in the life of a certificate.
	api.SidecarServiceRenewProcedure: {0.1, 10},
	// Once, and again with a growing pause when the connection is lost.
	api.SidecarServiceWatchProcedure: {1, 20},
	// Once a second, or as often as a batch of 500 events is full; of a team whose
	// audit is strict one after another, as long as there are requests.
	api.SidecarServiceReportProcedure: {1000, 2000},
}

// eventPace is twice what a worker does on one core (10,000 requests a second), and at
// once what four queues hold after an outage. It keeps one sandbox from
// being all that the database does.
var eventPace = pace{20_000, 40_000}

// volumePace keeps one sandbox from filling the disk, in bytes: 8 GiB of events,
// some twelve million usual ones, and from then on 1 MiB a second, 84 GiB a day.
var volumePace = pace{1 << 20, 8 << 30}

const (
	// eventSize is what an event takes in the database beside its texts, about.
	eventSize = 512
	// eventPatience is how long a report waits for its turn by those two. One
	// report at a time waits less; a sidecar gives up after ten seconds.
	eventPatience = 8 * time.Second
)

// sweepAt is how many sandboxes may have limiters before idle ones go.
const sweepAt = 10_000

// limits holds what each sandbox may do.
type limits struct {
	mu        sync.Mutex
	bySandbox map[string]*allowance
	sweepAt   int
}

// allowance is what one sandbox may do now.
type allowance struct {
	calls     map[string]*rate.Limiter // by procedure
	events    *rate.Limiter
	volume    *rate.Limiter
	alerts    map[suspicion]*rate.Limiter
	reporting sync.Mutex // held by the report under way
}

func newLimits() *limits {
	return &limits{bySandbox: make(map[string]*allowance), sweepAt: sweepAt}
}

func newAllowance() *allowance {
	a := &allowance{
		calls: make(map[string]*rate.Limiter, len(paces)), events: eventPace.limiter(), volume: volumePace.limiter(),
		alerts: map[suspicion]*rate.Limiter{tooOften: alertPace.limiter(), stranger: alertPace.limiter(), forged: alertPace.limiter()},
	}
	for procedure, p := range paces {
		a.calls[procedure] = p.limiter()
	}
	return a
}

func (p pace) limiter() *rate.Limiter { return rate.NewLimiter(p.rate, p.burst) }

func (l *limits) of(sandbox string) *allowance {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.bySandbox[sandbox]
	if a == nil {
		if len(l.bySandbox) >= l.sweepAt {
			l.sweep()
		}
		a = newAllowance()
		l.bySandbox[sandbox] = a
	}
	return a
}

// sweep forgets allowances that are full again: a new one would be the same.
func (l *limits) sweep() {
	for sandbox, a := range l.bySandbox {
		if a.full() {
			delete(l.bySandbox, sandbox)
		}
	}
	l.sweepAt = max(sweepAt, 2*len(l.bySandbox))
}

func (a *allowance) full() bool {
	all := []*rate.Limiter{a.events, a.volume}
	all = slices.AppendSeq(all, maps.Values(a.calls))
	all = slices.AppendSeq(all, maps.Values(a.alerts))
	for _, limiter := range all {
		if limiter.Tokens() < float64(limiter.Burst()) {
			return false
		}
	}
	return true
}

// allow reports why the sandbox may not make the call now, if it may not.
// Otherwise done is to be called after it.
func (l *limits) allow(sandbox, procedure string) (done func(), err error) {
	a := l.of(sandbox)
	if limiter := a.calls[procedure]; limiter != nil && !limiter.Allow() {
		return nil, exhausted("this sandbox calls too often; at most %v a second", limiter.Limit())
	}
	if procedure != api.SidecarServiceReportProcedure {
		return func() {}, nil
	}
	if !a.reporting.TryLock() {
		return nil, exhausted("a report of this sandbox is being stored; send the next after its answer")
	}
	return a.reporting.Unlock, nil
}

// waitForEvents waits until the sandbox may report n events of size bytes. A
// worker that is answered later reports later, and its requests wait for it.
func (l *limits) waitForEvents(ctx context.Context, sandbox string, n, size int) error {
	patient, cancel := context.WithTimeout(ctx, eventPatience)
	defer cancel()
	a := l.of(sandbox)
	err := a.events.WaitN(patient, n)
	if err == nil {
		err = a.volume.WaitN(patient, n*eventSize+size)
	}
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	return exhausted("this sandbox reports too much; at most %v events and, over time, %v bytes a second", eventPace.rate, volumePace.rate)
}

func exhausted(format string, args ...any) error {
	return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(format, args...))
}

// withLimits refuses a call that comes too soon before it reads its message.
func (s *Server) withLimits(next http.Handler) http.Handler {
	writer := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cert, _ := r.Context().Value(certificateKey{}).(*x509.Certificate)
		who, err := s.verify(r.Context(), cert, identity.RenewalGrace)
		if err != nil { // a newcomer, or one who will be refused
			c, ok := r.Context().Value(connectionKey{}).(*connection)
			if ok && r.URL.Path == api.SidecarServiceEnrollProcedure && !c.mayEnrol() {
				err := exhausted("%d join tokens were tried on this connection; open another", mostEnrolments)
				s.Metrics.called(r.URL.Path, err)
				writer.Write(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
			return
		}
		done, err := s.limits.allow(who.ID, r.URL.Path)
		if err != nil {
			s.Metrics.called(r.URL.Path, err)
			if r.URL.Path == api.SidecarServiceFetchProcedure {
				s.Metrics.fetched(err)
				s.alert(r.Context(), peer{Sandbox: who}, tooOften)
			}
			writer.Write(w, r, err)
			return
		}
		defer done()
		next.ServeHTTP(w, r)
	})
}
