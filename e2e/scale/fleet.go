package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/rpc"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"sallyport/e2e/stage"
)

const (
	// joining bounds the sandboxes that are made at once, and as many sidecars that
	// are enrolled.
	joining = 32
	// enrolled is how many sidecars are enrolled by one call.
	enrolled = 50
	// calls and burst are a little less than the admin API takes of one token.
	calls, burst = 95, 1800
)

// fleet is the sidecars, in the processes that hold them.
type fleet struct {
	options
	stage *stage.Stage
	out   io.Writer

	held    []*rpc.Client
	version uint64 // of the credential
}

func (f *fleet) close() {
	for _, h := range f.held {
		h.Close()
	}
}

func agentName(n int) string { return fmt.Sprintf("agent-%d", n) }

// prepare makes a vault with one credential, the agents it is pinned to, and the holders.
func (f *fleet) prepare() error {
	if _, err := f.stage.CLI("", "vault", "create", "scale"); err != nil {
		return err
	}
	_, err := f.stage.CLI("scale-key-0123456789abcdefghij", "credential", "add", "--vault", "scale", "--name", "key",
		"--host", host, "--inject", "bearer", "--secret-file", "-")
	if err != nil {
		return err
	}
	f.version = 1
	for n := range f.agents {
		if _, err := f.stage.CLI("", "agent", "create", agentName(n)); err != nil {
			return err
		}
		if _, err := f.stage.CLI("", "agent", "pin", agentName(n), "scale"); err != nil {
			return err
		}
	}
	for range f.holders {
		p, err := f.stage.Server(f.holding, f.stage.Self, holdCommand)
		if err != nil {
			return err
		}
		f.held = append(f.held, rpc.NewClient(pipe{p.Output, p.Input}))
	}
	return nil
}

// join makes the sandboxes and enrols their sidecars.
func (f *fleet) join(ctx context.Context) error {
	pace := rate.NewLimiter(calls, burst)
	group, ctx := errgroup.WithContext(ctx)
	for n, h := range f.held {
		tokens := make(chan string, joining)
		group.Go(func() error {
			defer close(tokens)
			return f.create(ctx, n, pace, tokens)
		})
		group.Go(func() error { return f.enrolAll(h, n, tokens) })
	}
	return group.Wait()
}

// create makes the sandboxes of a holder, and gives their join tokens.
func (f *fleet) create(ctx context.Context, holder int, pace *rate.Limiter, tokens chan<- string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, joining/f.holders))
	for n := holder; n < f.sessions; n += f.holders {
		group.Go(func() error {
			if err := pace.Wait(ctx); err != nil {
				return err
			}
			var made struct {
				JoinToken string `json:"join_token"`
			}
			path := "/v1/teams/default/agents/" + agentName(n%f.agents) + "/sandboxes"
			if err := f.stage.Admin(http.MethodPost, path, nil, &made); err != nil {
				return err
			}
			select {
			case tokens <- made.JoinToken:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}
	return group.Wait()
}

// enrolAll has a holder enrol those of tokens.
func (f *fleet) enrolAll(h *rpc.Client, holder int, tokens <-chan string) error {
	e := Enrolment{API: f.stage.API}
	if holder%2 == 1 {
		e.API = strings.Replace(e.API, "127.0.0.1", "[::1]", 1)
	}
	call := func() error {
		defer func() { e.Tokens = nil }()
		return h.Call("Holder.Enrol", e, nil)
	}
	for token := range tokens {
		if e.Tokens = append(e.Tokens, token); len(e.Tokens) < enrolled {
			continue
		}
		if err := call(); err != nil {
			return err
		}
	}
	return call()
}

// tell calls a method of every holder that takes and gives nothing.
func (f *fleet) tell(method string) error {
	var failed error
	for _, h := range f.held {
		failed = errors.Join(failed, h.Call("Holder."+method, None{}, nil))
	}
	return failed
}

// opened is how many sidecars have had a snapshot.
func (f *fleet) opened() (all int, err error) {
	for _, h := range f.held {
		var n int
		if err := h.Call("Holder.Opened", None{}, &n); err != nil {
			return 0, err
		}
		all += n
	}
	return all, nil
}
