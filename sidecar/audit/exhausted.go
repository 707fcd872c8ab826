package audit

import (
	"errors"

	"connectrpc.com/connect"
)

// ExhaustedError is why the control plane takes no more events for now, in its words: the
// team's quota is used up, or the sandbox reports too much.
type ExhaustedError struct{ Said string }

func (e *ExhaustedError) Error() string { return e.Said }

// Exhausted is an *ExhaustedError if the last report was refused for that; nil otherwise.
func (q *Queue) Exhausted() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.refused
}

// exhausted notes what became of a report.
func (q *Queue) exhausted(err error) {
	var said *connect.Error
	if errors.As(err, &said) && said.Code() == connect.CodeResourceExhausted {
		err = &ExhaustedError{said.Message()}
	} else {
		err = nil
	}
	q.mu.Lock()
	q.refused = err
	q.mu.Unlock()
}
