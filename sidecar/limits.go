package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"sallyport/control/api"
	"sallyport/sidecar/allot"
	"sallyport/sidecar/approve"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/material"
	"sallyport/sidecar/proxy"
)

// within gives the use of a binding, if the request is one that its credential is for.
func within(permitted bind.Permitted, binding *api.Binding, x *proxy.Exchange, r *http.Request, now time.Time) (bind.Use, error) {
	if bind.Narrow(binding) {
		if name, found := override(r); found {
			return bind.Use{}, proxy.Errorf(http.StatusBadRequest, "bad_request",
				"whether the credential for %s is used goes by methods or paths; the field %s, which names others at some servers, is refused", x.Host, name)
		}
	}
	return permitted.Use(binding, now)
}

// passed is what a request has been through already, should it be decided anew.
type passed struct {
	approved struct {
		credential string
		version    uint64
	}
	counted string // the credential
}

// admitUse lets a request pass that a person has approved, if that is needed, and
// that the rate and the budget have room for.
func (w *worker) admitUse(ctx context.Context, b *api.Binding, x *proxy.Exchange, r *http.Request) error {
	limits, id, version := b.GetLimits(), b.GetCredentialId(), b.GetVersion()
	if limits == nil {
		return nil
	}
	already, again := x.Admitted.(*passed)
	if !again {
		already = new(passed)
		x.Admitted = already
	}
	if a := &already.approved; limits.GetApproval() != api.Approval_APPROVAL_UNSPECIFIED && (a.credential != id || a.version != version) {
		if len(r.URL.EscapedPath()) > len(x.Path) {
			return errLongPath
		}
		if err := w.desk.Ask(ctx, b, question(b, x, r)); err != nil {
			return err
		}
		a.credential, a.version = id, version
	}
	if already.counted == id || !limits.GetRate() && !limits.GetBudget() {
		return nil
	}
	if err := w.allotted.Take(ctx, b); err != nil {
		return err
	}
	already.counted = id
	return nil
}

// errLongPath is that of a path of which a person would be shown the begin.
var errLongPath = proxy.Errorf(http.StatusForbidden, "approval_denied", "the request needs a person's approval, who can't be shown a path of this length; nothing was sent")

// question is what a person is shown of a request. Another version is another question.
func question(b *api.Binding, x *proxy.Exchange, r *http.Request) approve.Question {
	return approve.Question{Host: x.Host, Port: x.Port, Method: r.Method, Path: x.Path, Request: fmt.Sprintf("%s.%d", x.ID, b.GetVersion())}
}

// superseded reports whether a request has to be decided anew, by another revision than
// that which err comes from.
func superseded(err error) bool {
	return errors.Is(err, material.ErrSuperseded) || errors.Is(err, material.ErrUnbound) ||
		errors.Is(err, allot.ErrSuperseded) || errors.Is(err, approve.ErrSuperseded)
}

// explainLimit gives the answer to a request that a credential's limits leave no
// room for; nil if err is none of that.
func explainLimit(x *proxy.Exchange, err error) *proxy.Error {
	var limit *bind.LimitError
	var exhausted *allot.ExhaustedError
	switch {
	case errors.As(err, &limit):
		return explainBound(x, limit)
	case errors.As(err, &exhausted):
		return explainExhausted(x, exhausted)
	case errors.Is(err, allot.ErrUnavailable):
		return unavailable("limit_unavailable", "the requests with the credential for "+x.Host+" are counted by the control plane, which can't be asked; nothing was sent")
	case errors.Is(err, approve.ErrDenied):
		return proxy.Errorf(http.StatusForbidden, "approval_denied", "%s %s: a person has denied it; nothing was sent", x.Method, x.Host)
	case errors.Is(err, approve.ErrTimeout):
		return proxy.Errorf(http.StatusGatewayTimeout, "approval_timeout", "%s %s waits for a person's approval, and nobody has given it in time; nothing was sent: sallyport approval list", x.Method, x.Host)
	case errors.Is(err, approve.ErrBusy):
		answer := proxy.Errorf(http.StatusTooManyRequests, "approval_busy", "too many requests of this sandbox wait for a person's approval; try again when some are decided")
		answer.RetryAfter = 10 * time.Second
		return answer
	case errors.Is(err, approve.ErrUnavailable):
		return unavailable("approval_unavailable", x.Method+" "+x.Host+" needs a person's approval, and the control plane can't be asked; nothing was sent")
	case superseded(err):
		return unavailable("credential_changing", "the credential for "+x.Host+" is being changed; try again")
	}
	return nil
}

func explainBound(x *proxy.Exchange, e *bind.LimitError) *proxy.Error {
	return proxy.Errorf(http.StatusForbidden, e.Code(), "%s %s: %v; an admin can change its limits: sallyport credential set", x.Method, x.Host, e)
}

func explainExhausted(x *proxy.Exchange, e *allot.ExhaustedError) *proxy.Error {
	code, what := "limit_rate", "the rate of the credential for %s is reached"
	if e.Budget {
		code, what = "limit_budget", "the budget of the credential for %s is used up"
	}
	answer := proxy.Errorf(http.StatusTooManyRequests, code, what+", by all sandboxes together", x.Host)
	if e.RetryAfter == 0 {
		answer.Status = http.StatusForbidden // it gets no better by waiting
		answer.Message += "; an admin can raise it: sallyport credential set"
		return answer
	}
	answer.RetryAfter = e.RetryAfter
	answer.Message += fmt.Sprintf("; there is more in %s", e.RetryAfter.Round(time.Second))
	return answer
}

// longestSleep bounds a wait by the monotonic clock, which stands still while a machine
// is suspended.
const longestSleep = time.Minute

// expire has what goes on by a credential's leave ended as that expires.
func (w *worker) expire(ctx context.Context) error {
	for {
		w.changing.Lock()
		changed := w.changed
		w.changing.Unlock()
		now := w.identity.Now()
		wait := longestSleep
		next := w.served.Load().table.NextExpiry(now)
		if !next.IsZero() {
			wait = min(wait, next.Sub(now)+time.Millisecond)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-changed:
			timer.Stop()
		case <-timer.C:
			if !next.IsZero() && !w.identity.Now().Before(next) {
				w.proxy.Review()
			}
		}
	}
}
