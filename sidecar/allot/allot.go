// Package allot keeps what the control plane has allotted this sandbox of the
// requests that a credential's rate and budget allow to all sandboxes together.
// The control plane counts what it allots as spent. So whatever dies here, what was
// allotted is used once at most, and what is not allotted not at all.
package allot

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"

	"sallyport/control/api"
)

var (
	// ErrUnavailable is the control plane being away.
	ErrUnavailable = errors.New("the control plane, which counts the requests with this credential, can't be asked")
	// ErrSuperseded is a binding that is not, or no longer, one that is served.
	ErrSuperseded = errors.New("the credential's limits were changed meanwhile")
)

// ExhaustedError is a request that the rate or the budget has no room for.
type ExhaustedError struct {
	Budget     bool
	RetryAfter time.Duration // 0: not before the limits change
}

func (e *ExhaustedError) Error() string {
	if e.Budget {
		return "the credential's budget is used up"
	}
	return "the credential's rate is reached"
}

const (
	callTimeout = 5 * time.Second
	// most is how many requests are asked for at once. Fewer are, one at first:
	// twice as many as before whenever those were used within brisk.
	most  = 64
	brisk = 2 * time.Second
	// refusalMemory bounds how long it is believed that a budget is used up, which
	// may be raised.
	refusalMemory = 5 * time.Second
)

// Client is the call that allots.
type Client interface {
	Allot(context.Context, *connect.Request[api.AllotRequest]) (*connect.Response[api.AllotResponse], error)
}

// Ledger holds what was allotted. It may be used by several goroutines at once.
type Ledger struct {
	client Client

	mu       sync.Mutex
	accounts map[string]*account // by credential id
}

// New makes a Ledger that has no accounts.
func New(client Client) *Ledger { return &Ledger{client: client, accounts: map[string]*account{}} }

// account is what was allotted of one credential.
type account struct {
	terms        string
	rate, budget *part  // nil: there is no such limit
	flight       *asked // nil: no call is under way
}

// part is what was allotted of the rate, or of the budget.
type part struct {
	budget bool
	left   uint32
	got    time.Time // when that came
	until  deadline  // until when it may be used
	want   uint32    // the last time
	none   bool      // there was none
	more   deadline  // none: when there may be more
	again  deadline  // none: when to ask again
}

// deadline passes by the monotonic clock or the wall clock, whichever is first:
// one stands still in a suspended machine, the other can be set back. The zero
// deadline never passes.
type deadline struct{ at time.Time }

func (d deadline) passed(now time.Time) bool {
	return !d.at.IsZero() && (!now.Before(d.at) || !now.Round(0).Before(d.at.Round(0)))
}

// asked is a call under way.
type asked struct {
	done    chan struct{}
	version uint64 // of the credential, that it is asked with
	waiting uint32
	err     error
}

// Keep has accounts for these bindings, and drops all others. What was allotted
// under other terms is void.
func (l *Ledger) Keep(bindings []*api.Binding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := make(map[string]*account)
	for _, b := range bindings {
		id, limits := b.GetCredentialId(), b.GetLimits()
		if !limits.GetRate() && !limits.GetBudget() {
			continue
		}
		if have := l.accounts[id]; have != nil && have.terms == limits.GetTerms() {
			kept[id] = have
			continue
		}
		a := &account{terms: limits.GetTerms()}
		if limits.GetRate() {
			a.rate = &part{}
		}
		if limits.GetBudget() {
			a.budget = &part{budget: true}
		}
		kept[id] = a
	}
	l.accounts = kept
}

// Take takes one request with the binding, which has a rate or a budget. Its errors
// are an *ExhaustedError, ErrUnavailable and ErrSuperseded, or ctx's.
func (l *Ledger) Take(ctx context.Context, b *api.Binding) error {
	for {
		a, flight, lead, err := l.take(b)
		if flight == nil {
			return err
		}
		if lead {
			l.ask(context.WithoutCancel(ctx), a, flight, b)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-flight.done:
		}
		if errors.Is(flight.err, ErrSuperseded) && flight.version != b.GetVersion() {
			continue // another's request, which was decided about before the credential was rotated
		}
		if flight.err != nil {
			return flight.err
		}
	}
}

// take takes one, or tells why there is none, or gives the call to wait for, which
// lead has to make.
func (l *Ledger) take(b *api.Binding) (a *account, flight *asked, lead bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a = l.accounts[b.GetCredentialId()]
	if a == nil || a.terms != b.GetLimits().GetTerms() {
		return nil, nil, false, ErrSuperseded
	}
	now, enough := time.Now(), true
	for _, p := range []*part{a.budget, a.rate} {
		if p == nil {
			continue
		}
		if err := p.exhausted(now); err != nil {
			return nil, nil, false, err
		}
		enough = enough && p.has(now)
	}
	if enough {
		for _, p := range []*part{a.budget, a.rate} {
			if p != nil {
				p.left--
			}
		}
		return nil, nil, false, nil
	}
	if a.flight == nil {
		a.flight, lead = &asked{done: make(chan struct{}), version: b.GetVersion()}, true
	}
	a.flight.waiting++
	return a, a.flight, lead, nil
}

func (p *part) has(now time.Time) bool { return p.left > 0 && !p.until.passed(now) }

func (p *part) exhausted(now time.Time) error {
	if !p.none || p.again.passed(now) {
		return nil
	}
	e := &ExhaustedError{Budget: p.budget}
	if !p.more.at.IsZero() {
		e.RetryAfter = max(p.more.at.Sub(now), time.Second)
	}
	return e
}

// wanted is how many to ask for.
func (p *part) wanted(now time.Time, waiting uint32) uint32 {
	if p == nil || p.has(now) {
		return 0
	}
	if now.Sub(p.got) < brisk {
		p.want *= 2
	} else {
		p.want = 1
	}
	return min(max(p.want, waiting, 1), most)
}

// ask makes the call that flight stands for.
func (l *Ledger) ask(ctx context.Context, a *account, flight *asked, b *api.Binding) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	l.mu.Lock()
	began := time.Now()
	m := &api.AllotRequest{
		CredentialId: b.GetCredentialId(), Version: b.GetVersion(),
		Rate: a.rate.wanted(began, flight.waiting), Budget: a.budget.wanted(began, flight.waiting),
	}
	l.mu.Unlock()
	response, err := l.client.Allot(ctx, connect.NewRequest(m))
	l.mu.Lock()
	defer l.mu.Unlock()
	a.flight = nil
	defer close(flight.done)
	if err != nil {
		flight.err = fmt.Errorf("%w: %w", reason(err), err)
		return
	}
	if m.Rate > 0 {
		a.rate.settle(response.Msg.GetRate(), m.Rate, began)
	}
	if m.Budget > 0 {
		a.budget.settle(response.Msg.GetBudget(), m.Budget, began)
	}
}

// settle puts what came in the place of what is used up, or too old. Times count
// from when it was asked for: those of the control plane began later.
func (p *part) settle(m *api.Allotment, want uint32, began time.Time) {
	*p = part{budget: p.budget, left: min(m.GetRequests(), want), got: began, want: p.want}
	after := func(d time.Duration) deadline { return deadline{began.Add(d)} }
	if m.GetLasts() != nil {
		p.until = after(m.GetLasts().AsDuration())
	}
	if p.left > 0 {
		return
	}
	p.none, p.again = true, after(refusalMemory)
	if retry := m.GetRetryAfter(); retry != nil {
		p.more = after(retry.AsDuration())
		if p.more.at.Before(p.again.at) {
			p.again = p.more
		}
	}
}

// reason sorts errors into those of a binding that is not served any more and
// outages.
func reason(err error) error {
	switch connect.CodeOf(err) {
	case connect.CodeNotFound, connect.CodePermissionDenied, connect.CodeInvalidArgument, connect.CodeFailedPrecondition:
		return ErrSuperseded
	}
	return ErrUnavailable
}
