package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"sallyport/control/api"
	"sallyport/sidecar/allot"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/proxy"
)

// within gives the use of a binding, if the request is one that its credential is for.
func within(permitted bind.Permitted, binding *api.Binding, x *proxy.Exchange, r *http.Request) (bind.Use, error) {
	if bind.Narrow(binding) {
		if name, found := override(r.Header); found {
			return bind.Use{}, proxy.Errorf(http.StatusBadRequest, "bad_request",
				"the credential for %s is for some methods or paths only; the field %s, which overrides them at some servers, is refused", x.Host, name)
		}
	}
	return permitted.Use(binding, time.Now())
}

// spend takes one request of the binding's rate and budget, if it has any.
func (w *worker) spend(ctx context.Context, b *api.Binding) error {
	if !b.GetLimits().GetRate() && !b.GetLimits().GetBudget() {
		return nil
	}
	return w.allotted.Take(ctx, b)
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
	case errors.Is(err, allot.ErrSuperseded):
		return unavailable("credential_changing", "the credential for "+x.Host+" is being changed; try again")
	}
	return nil
}

func explainBound(x *proxy.Exchange, e *bind.LimitError) *proxy.Error {
	code, why := "limit_expired", "has expired"
	switch {
	case errors.Is(e, bind.ErrMethod):
		code, why = "limit_method", "is not for the method "+x.Method
	case errors.Is(e, bind.ErrOffPath):
		code, why = "limit_path", "is not for this path"
	}
	return proxy.Errorf(http.StatusForbidden, code, "%s %s: the credential %s %s; an admin can change its limits: sallyport credential set", x.Method, x.Host, e.Credential, why)
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

// expire has what goes on by a credential's leave ended as that expires.
func (w *worker) expire(ctx context.Context) error {
	for {
		w.changing.Lock()
		changed := w.changed
		w.changing.Unlock()
		now := time.Now()
		wait := time.Hour
		if next := w.served.Load().table.NextExpiry(now); !next.IsZero() {
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
			w.proxy.Review()
		}
	}
}
