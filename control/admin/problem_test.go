package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
)

func TestProblem(t *testing.T) {
	var log strings.Builder
	s := &Server{Config: Config{Log: slog.New(slog.NewTextHandler(&log, nil))}}
	ctx := context.WithValue(t.Context(), recordKey{}, &requestRecord{id: "r-1"})
	for _, tc := range []struct {
		err    error
		status int
		detail string
	}{
		{control.Errorf(control.CodeInvalid, "why"), 422, "why"},
		{control.Errorf(control.CodeNotFound, "why"), 404, "why"},
		{control.Errorf(control.CodeConflict, "why"), 409, "why"},
		{control.Errorf(control.CodeForbidden, "why"), 403, "why"},
		{control.Errorf(control.CodeUnauthorized, "why"), 401, "why"},
		{control.Errorf(control.CodeUnavailable, "why"), 503, "why"},
		{fmt.Errorf("insert into secrets: %w", control.Errorf(control.CodeConflict, "why")), 409, "why"},
		{context.DeadlineExceeded, 503, "the request took too long; try again"},
		{errors.New("select * from secrets"), 500, "internal error; the log of the control plane has it as request r-1"},
	} {
		if p := s.problem(ctx, tc.err); p.Status != tc.status || p.Detail != tc.detail {
			t.Errorf("%v: %d %q, want %d %q", tc.err, p.Status, p.Detail, tc.status, tc.detail)
		}
	}
	if !strings.Contains(log.String(), "select * from secrets") || strings.Contains(log.String(), "insert") {
		t.Errorf("the log has %s", log.String())
	}
}

func TestHumaErrorsLoseTheirValues(t *testing.T) {
	v, err := withoutValues(nil, "", &huma.ErrorModel{Status: 422, Detail: "validation failed", Errors: []*huma.ErrorDetail{
		{Message: "expected integer", Location: "query.limit", Value: "canary"},
	}})
	if p, ok := v.(*problem); !ok || err != nil || p.Detail != "limit: expected integer" || p.Status != 422 || p.Code != control.CodeInvalid {
		t.Errorf("%+v, %v", v, err)
	}
}
