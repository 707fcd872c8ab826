package agentapi

import (
	"context"
	"math"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/store"
)

const (
	// approvalRound is how long one call waits for a decision. The sidecar asks again.
	approvalRound = 15 * time.Second
	// The bounds of what a person is shown, in bytes.
	maxShownMethod = 64
	maxShownPath   = 1024
)

// waiting wakes the calls that wait for a decision about a sandbox's request.
type waiting struct {
	mu        sync.Mutex
	bySandbox map[string]chan struct{} // closed when there was a decision
	closed    bool
}

func newWaiting() *waiting { return &waiting{bySandbox: make(map[string]chan struct{})} }

// watch gives what is closed at the sandbox's next decision; nil when nobody is to
// wait any more.
func (w *waiting) watch(sandbox string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	c := w.bySandbox[sandbox]
	if c == nil {
		c = make(chan struct{})
		w.bySandbox[sandbox] = c
	}
	return c
}

// wake wakes those of a sandbox, or with "" all.
func (w *waiting) wake(sandbox string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, c := range w.bySandbox {
		if sandbox == "" || id == sandbox {
			close(c)
			delete(w.bySandbox, id)
		}
	}
}

// close wakes all, and lets nobody wait any more.
func (w *waiting) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.wake("")
}

// Approve asks a person about a request of the calling sandbox.
func (s *Server) Approve(ctx context.Context, request *connect.Request[api.ApproveRequest]) (*connect.Response[api.ApproveResponse], error) {
	p, m := peerOf(ctx), request.Msg
	if _, err := s.acting(ctx, p); err != nil {
		return nil, err
	}
	// What is too long to be shown is not cut: what is approved is what was shown.
	if m.GetRequest() == "" || len(m.GetRequest()) > maxShownMethod || m.GetPort() > math.MaxUint16 || len(m.GetMethod()) > maxShownMethod || len(m.GetPath()) > maxShownPath {
		return nil, control.Errorf(control.CodeInvalid, "the question has no name, or has more in it than a person is shown")
	}
	if m.GetWithdraw() {
		return connect.NewResponse(&api.ApproveResponse{}), s.Store.WithdrawApproval(ctx, p.Team, p.ID, m.GetRequest())
	}
	bound, err := s.Store.Bound(ctx, p.Team, p.ID, m.GetCredentialId(), int64(m.GetVersion()))
	if err != nil {
		return nil, refused(err)
	}
	if bound.Credential.ID != m.GetCredentialId() || !serves(bound.Credential, m.GetHost()) {
		return nil, errUnbound
	}
	answer, err := s.decision(ctx, store.Question{
		TeamID: p.Team, SandboxID: p.ID, CredentialID: m.GetCredentialId(), Version: int64(m.GetVersion()),
		Host: m.GetHost(), Port: int(m.GetPort()), Method: m.GetMethod(), Path: m.GetPath(),
		Request: m.GetRequest(),
	})
	if err != nil {
		return nil, refused(err)
	}
	return connect.NewResponse(answer), nil
}

// decision waits a round for one.
func (s *Server) decision(ctx context.Context, q store.Question) (*api.ApproveResponse, error) {
	over := time.Now().Add(approvalRound)
	for {
		decided := s.waiting.watch(q.SandboxID) // before it is asked, so that none is missed
		answer, err := s.Store.AskApproval(ctx, q)
		if err != nil {
			return nil, err
		}
		wait := min(time.Until(over), answer.Lasts)
		if answer.Busy || answer.State != control.ApprovalPending || decided == nil || wait <= 0 {
			return approvalAnswer(answer), nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-decided:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

func approvalAnswer(a store.Answer) *api.ApproveResponse {
	wire := &api.ApproveResponse{Lasts: durationpb.New(a.Lasts)}
	switch {
	case a.Busy:
		wire.Decision = api.ApproveResponse_DECISION_BUSY
	case a.State == control.ApprovalPending:
		wire.Decision = api.ApproveResponse_DECISION_PENDING
	case a.State == control.ApprovalApproved:
		wire.Decision = api.ApproveResponse_DECISION_APPROVED
	case a.State == control.ApprovalDenied:
		wire.Decision = api.ApproveResponse_DECISION_DENIED
	default:
		wire.Decision = api.ApproveResponse_DECISION_TIMEOUT
	}
	return wire
}
