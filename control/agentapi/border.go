package agentapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"connectrpc.com/connect"

	"sallyport/control"
)

// unaryTimeout bounds every call but Watch, so that none outlives its use.
const unaryTimeout = 30 * time.Second

// border stands before every handler: it authenticates, counts, and turns
// errors into what a sidecar may know of them.
type border struct{ server *Server }

func (b *border) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (response connect.AnyResponse, err error) {
		ctx, cancel := context.WithTimeout(ctx, unaryTimeout)
		defer cancel()
		err = b.cross(ctx, request.Spec().Procedure, request.Header(), func(ctx context.Context) error {
			response, err = next(ctx, request)
			return err
		})
		return response, err
	}
}

func (b *border) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return b.cross(ctx, conn.Spec().Procedure, conn.RequestHeader(), func(ctx context.Context) error { return next(ctx, conn) })
	}
}

func (b *border) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (b *border) cross(ctx context.Context, procedure string, header http.Header, call func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			b.server.Log.Error("sidecar call panicked", "procedure", procedure, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = connect.NewError(connect.CodeInternal, errInternal)
		}
		b.server.Metrics.called(procedure, err)
	}()
	identified, err := b.server.authenticate(ctx, procedure, header)
	if err == nil {
		err = call(identified)
	}
	return b.translate(ctx, procedure, err)
}

var errInternal = errors.New("internal error")

// translate gives a control.Error its Connect code. Any other error is ours
// alone: it is logged, and the sidecar learns nothing of it. So is what lies behind
// something being unavailable.
func (b *border) translate(ctx context.Context, procedure string, err error) error {
	var wire *connect.Error
	var known *control.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		if control.Behind(err) {
			b.server.Log.Warn("sidecar call failed", "procedure", procedure, "error", err)
		}
		return connect.NewError(connectCode(known.Code), errors.New(known.Message))
	case errors.As(err, &wire): // of the protocol, or of a limit
		return wire
	case ctx.Err() != nil:
		return connect.NewError(connect.CodeCanceled, context.Canceled)
	}
	b.server.Log.Error("sidecar call failed", "procedure", procedure, "error", err)
	return connect.NewError(connect.CodeInternal, errInternal)
}

func connectCode(c control.Code) connect.Code {
	switch c {
	case control.CodeInvalid:
		return connect.CodeInvalidArgument
	case control.CodeNotFound:
		return connect.CodeNotFound
	case control.CodeConflict:
		return connect.CodeFailedPrecondition
	case control.CodeUnauthorized:
		return connect.CodeUnauthenticated
	case control.CodeForbidden:
		return connect.CodePermissionDenied
	case control.CodeUnavailable:
		return connect.CodeUnavailable
	case control.CodeQuota:
		return connect.CodeResourceExhausted
	case control.CodeExchange:
		return connect.CodeAborted
	}
	return connect.CodeInternal
}
