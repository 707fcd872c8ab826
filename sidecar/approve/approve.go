// Package approve has requests wait until a person has decided about them.
package approve

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
	ErrDenied  = errors.New("a person has denied the request")
	ErrTimeout = errors.New("nobody has approved the request in time")
	ErrBusy    = errors.New("too many requests of this sandbox wait for an approval")
	// ErrUnavailable is the control plane being away.
	ErrUnavailable = errors.New("the control plane can't be asked for an approval")
	// ErrSuperseded is a binding that is not, or no longer, one that is served.
	ErrSuperseded = errors.New("the credential was changed meanwhile")
)

const (
	// callTimeout bounds one call, which the control plane answers sooner.
	callTimeout = 30 * time.Second
	pause       = 500 * time.Millisecond // after a call that failed
	// awayFor is how long the control plane may be away while a request waits.
	awayFor = 20 * time.Second
	// withdrawTimeout bounds the call that tells that nobody waits any more.
	withdrawTimeout = 5 * time.Second
	// slack is how much longer than the control plane a request waits.
	slack = 10 * time.Second
)

// Client is the call that asks.
type Client interface {
	Approve(context.Context, *connect.Request[api.ApproveRequest]) (*connect.Response[api.ApproveResponse], error)
}

// Desk asks for approvals. It may be used by several goroutines at once.
type Desk struct {
	client Client
	asking sync.WaitGroup

	mu     sync.Mutex
	firsts map[use]*first
}

// use is a sandbox's use of a version of a credential.
type use struct {
	credential string
	version    uint64
}

// first is the question about a use, or its approval.
type first struct {
	done    chan struct{} // closed when there is an answer
	err     error
	until   time.Time // of the approval
	waiting int
	leave   context.CancelCauseFunc
}

// New makes a Desk.
func New(client Client) *Desk { return &Desk{client: client, firsts: make(map[use]*first)} }

// Question is what a person is shown.
type Question struct {
	Host         string
	Port         uint16
	Method, Path string
	Request      string // names it
}

// Ask waits until a person has approved that a request uses a binding, if its
// limits ask for that. It is nil then, and one of the errors above else, or ctx's.
func (d *Desk) Ask(ctx context.Context, b *api.Binding, q Question) error {
	switch b.GetLimits().GetApproval() {
	case api.Approval_APPROVAL_UNSPECIFIED:
		return nil
	case api.Approval_APPROVAL_FIRST:
		return d.askFirst(ctx, b, q)
	}
	_, err := d.ask(ctx, b, q)
	return err
}

// Keep forgets what was approved of uses that are over.
func (d *Desk) Keep(bindings []*api.Binding) {
	kept := make(map[use]bool)
	for _, b := range bindings {
		kept[useOf(b)] = b.GetLimits().GetApproval() == api.Approval_APPROVAL_FIRST
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for u, f := range d.firsts {
		if !kept[u] {
			f.leave(ErrSuperseded)
			delete(d.firsts, u)
		}
	}
}

// Wait returns when no question is under way any more; nothing may be asked after.
func (d *Desk) Wait() { d.asking.Wait() }

func useOf(b *api.Binding) use { return use{b.GetCredentialId(), b.GetVersion()} }

// askFirst has one question for all requests that wait for the same use. It is
// withdrawn when the last of them goes.
func (d *Desk) askFirst(ctx context.Context, b *api.Binding, q Question) error {
	f := d.join(ctx, b, q)
	select {
	case <-f.done:
		d.part(f)
		return f.err
	case <-ctx.Done():
		d.part(f)
		return context.Cause(ctx)
	}
}

// join gives the question about a use, which is asked if it is not yet, or its
// approval while that holds.
func (d *Desk) join(ctx context.Context, b *api.Binding, q Question) *first {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := useOf(b)
	if f := d.firsts[u]; f != nil && !f.over() {
		f.waiting++
		return f
	}
	ctx, leave := context.WithCancelCause(context.WithoutCancel(ctx)) // of all who wait, not of this request
	f := &first{done: make(chan struct{}), waiting: 1, leave: leave}
	d.firsts[u] = f
	d.asking.Go(func() {
		defer leave(nil)
		lasts, err := d.ask(ctx, b, q)
		d.mu.Lock()
		defer d.mu.Unlock()
		f.err, f.until = err, time.Now().Add(lasts)
		close(f.done)
	})
	return f
}

// over reports whether the answer, if there is one, holds no longer. The caller
// holds the lock.
func (f *first) over() bool {
	select {
	case <-f.done:
		now := time.Now()
		return f.err != nil || !now.Before(f.until) || !now.Round(0).Before(f.until.Round(0))
	default:
		return f.waiting == 0 // and the question is being withdrawn
	}
}

// part is a request that waits no longer.
func (d *Desk) part(f *first) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.waiting--; f.waiting > 0 {
		return
	}
	select {
	case <-f.done:
	default:
		f.leave(nil)
	}
}

// ask waits for the answer to one question. An approval says how long it holds.
func (d *Desk) ask(ctx context.Context, b *api.Binding, q Question) (lasts time.Duration, err error) {
	patient, cancel := context.WithTimeout(ctx, b.GetLimits().GetApprovalTimeout().AsDuration()+slack)
	defer cancel()
	m := &api.ApproveRequest{
		CredentialId: b.GetCredentialId(), Version: b.GetVersion(),
		Host: q.Host, Port: uint32(q.Port), Method: q.Method, Path: q.Path, Request: q.Request,
	}
	var away time.Time // since when it does not answer; zero: it does
	for {
		answer, err := d.call(patient, m)
		switch {
		case err == nil:
			away = time.Time{}
			if done, err := read(answer); done {
				return answer.GetLasts().AsDuration(), err
			}
			continue
		case refused(err):
			return 0, fmt.Errorf("%w: %w", ErrSuperseded, err)
		case ctx.Err() != nil: // whoever waited has gone
			d.withdraw(ctx, m)
			return 0, context.Cause(ctx)
		case patient.Err() != nil:
			d.withdraw(ctx, m)
			return 0, ErrTimeout
		case away.IsZero(): // a call that was waiting long may have broken off only now
			away = time.Now()
		case time.Since(away) > awayFor:
			return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		select {
		case <-patient.Done():
		case <-time.After(pause):
		}
	}
}

func (d *Desk) call(ctx context.Context, m *api.ApproveRequest) (*api.ApproveResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	response, err := d.client.Approve(ctx, connect.NewRequest(m))
	if err != nil {
		return nil, err
	}
	return response.Msg, nil
}

// read gives what an answer means, if it is the last.
func read(m *api.ApproveResponse) (done bool, err error) {
	switch m.GetDecision() {
	case api.ApproveResponse_DECISION_PENDING:
		return false, nil
	case api.ApproveResponse_DECISION_APPROVED:
		return true, nil
	case api.ApproveResponse_DECISION_TIMEOUT:
		return true, ErrTimeout
	case api.ApproveResponse_DECISION_BUSY:
		return true, ErrBusy
	}
	return true, ErrDenied
}

// withdraw tells that nobody waits any more. If it can't, the question ends in time.
func (d *Desk) withdraw(ctx context.Context, m *api.ApproveRequest) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	_, _ = d.client.Approve(ctx, connect.NewRequest(&api.ApproveRequest{Request: m.GetRequest(), Withdraw: true}))
}

func refused(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeNotFound, connect.CodePermissionDenied, connect.CodeInvalidArgument, connect.CodeFailedPrecondition:
		return true
	}
	return false
}
