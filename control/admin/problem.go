package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
)

const problemType = "application/problem+json"

// problem is an answer that says what was wrong (RFC 9457). It is a
// huma.StatusError.
type problem struct {
	Type   string       `json:"type" doc:"Always about:blank"`
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Detail string       `json:"detail"`
	Code   control.Code `json:"code" doc:"invalid, not_found, conflict, unauthenticated, forbidden, changed, unconditional, quota_exceeded, too_many_requests, pending, unavailable, exchange_failed or internal"`

	header http.Header // of the answer, beside the usual
}

func (p *problem) Error() string             { return p.Detail }
func (p *problem) GetStatus() int            { return p.Status }
func (p *problem) ContentType(string) string { return problemType }
func (p *problem) Unwrap() error             { return &control.Error{Code: p.Code, Message: p.Detail} }
func (p *problem) GetHeaders() http.Header   { return p.header }

// Codes of what only HTTP knows.
const (
	codeInternal      control.Code = "internal"
	codeUnconditional control.Code = "unconditional"
	codeTooMany       control.Code = "too_many_requests"
	codePending       control.Code = "pending"
)

func newProblem(status int, code control.Code, format string, args ...any) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...), Code: code}
}

func statusOf(code control.Code) int {
	switch code {
	case control.CodeInvalid:
		return http.StatusUnprocessableEntity
	case control.CodeNotFound:
		return http.StatusNotFound
	case control.CodeConflict, control.CodeQuota:
		return http.StatusConflict
	case control.CodeChanged:
		return http.StatusPreconditionFailed
	case control.CodeUnauthorized:
		return http.StatusUnauthorized
	case control.CodeForbidden:
		return http.StatusForbidden
	case control.CodeUnavailable:
		return http.StatusServiceUnavailable
	case control.CodeExchange:
		return http.StatusBadGateway
	}
	return http.StatusInternalServerError
}

// problem is the one place where an error becomes an answer. An error that is
// not meant for the caller is logged, and the answer names only the request. So is
// what lies behind something being unavailable, which is the operator's to mend.
func (s *Server) problem(ctx context.Context, err error) *problem {
	var ready *problem
	if errors.As(err, &ready) {
		return ready
	}
	var known *control.Error
	if errors.As(err, &known) {
		if control.Behind(err) {
			s.Log.Warn("request failed", "request_id", recordOf(ctx).id, "error", err)
		}
		return newProblem(statusOf(known.Code), known.Code, "%s", known.Message)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return newProblem(http.StatusServiceUnavailable, control.CodeUnavailable, "the request took too long; try again")
	}
	id := recordOf(ctx).id
	s.Log.Error("request failed", "request_id", id, "error", err)
	return newProblem(http.StatusInternalServerError, codeInternal, "internal error; the log of the control plane has it as request %s", id)
}

// writeProblem answers where huma is not there to do it.
func writeProblem(w http.ResponseWriter, p *problem) {
	maps.Copy(w.Header(), p.header)
	w.Header().Set("Content-Type", problemType)
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

// withoutValues turns huma's own errors, all of parameters, into problems. Theirs
// quote the value that was wrong.
func withoutValues(_ huma.Context, _ string, v any) (any, error) {
	theirs, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	code := control.CodeInvalid
	if theirs.Status >= http.StatusInternalServerError {
		code = codeInternal
	}
	var details []string
	for _, d := range theirs.Errors {
		details = append(details, strings.TrimPrefix(d.Location, "query.")+": "+d.Message)
	}
	detail := theirs.Detail
	if len(details) > 0 {
		detail = strings.Join(details, "; ")
	}
	return newProblem(theirs.Status, code, "%s", detail), nil
}
