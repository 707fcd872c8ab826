package identity

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"connectrpc.com/connect"

	"sallyport/control/api"
)

// sessionControl gives each stream a session, and notes what calls carry.
type sessionControl struct {
	fakeControl
	openings, sessions []string
}

func (f *sessionControl) Watch(_ context.Context, stream *connect.BidiStream[api.WatchRequest, api.WatchResponse]) error {
	f.openings = append(f.openings, stream.RequestHeader().Get(api.HeaderOpening))
	stream.ResponseHeader().Set(api.HeaderSession, fmt.Sprint("session-", len(f.openings)))
	return stream.Send(&api.WatchResponse{})
}

func (f *sessionControl) Report(_ context.Context, r *connect.Request[api.ReportRequest]) (*connect.Response[api.ReportResponse], error) {
	f.sessions = append(f.sessions, r.Header().Get(api.HeaderSession))
	return connect.NewResponse(&api.ReportResponse{}), nil
}

// TestStreamsAreCounted: each stream and each worker is told apart from those
// before, and calls carry the session of the newest.
func TestStreamsAreCounted(t *testing.T) {
	f := &sessionControl{}
	f.ca = newAuthority(t)
	url := f.serveAs(t, f, listen(t), f.ca.serverCertificate(controlID, 1<<42))
	call := func(i *Identity) {
		t.Helper()
		w := i.Client().Watch(t.Context())
		_ = w.Send(&api.WatchRequest{})
		if _, err := w.Receive(); err != nil {
			t.Fatal(err)
		}
		w.CloseRequest()
		w.CloseResponse()
		must(i.Client().Report(t.Context(), connect.NewRequest(&api.ReportRequest{})))
	}
	i := must(Enroll(t.Context(), url, f.ca.joinToken(), "test"))
	must(i.Client().Report(t.Context(), connect.NewRequest(&api.ReportRequest{})))
	call(i)
	call(i)
	state := must(i.Marshal())
	i.Close()
	for range 2 {
		i = must(Restore(url, state))
		call(i)
		state = must(i.Marshal())
		i.Close()
	}
	if got := fmt.Sprint(f.openings, f.sessions); got != "[1.1 1.2 2.1 3.1] [ session-1 session-2 session-3 session-4]" {
		t.Errorf("openings and sessions %s", got)
	}
}

// aheadControl knows of streams that the sidecar never opened.
type aheadControl struct {
	fakeControl
	openings []string
	last     []string // what overtook each opening; "": nothing did
}

func (f *aheadControl) Watch(_ context.Context, stream *connect.BidiStream[api.WatchRequest, api.WatchResponse]) error {
	f.openings = append(f.openings, stream.RequestHeader().Get(api.HeaderOpening))
	last := f.last[0]
	f.last = f.last[1:]
	if last == "" {
		return stream.Send(&api.WatchResponse{})
	}
	stream.ResponseHeader().Set(api.HeaderOpening, last)
	return connect.NewError(connect.CodeUnavailable, errors.New("overtaken"))
}

// TestOpeningsOfOthersAreContested: a stream that somebody else has opened is opened the
// same time, by which the control plane sees two; one of our own that comes late is not.
func TestOpeningsOfOthersAreContested(t *testing.T) {
	f := &aheadControl{last: []string{"1.4", "1.7", "", "1.2", "2.9", "nonsense", ""}}
	f.ca = newAuthority(t)
	url := f.serveAs(t, f, listen(t), f.ca.serverCertificate(controlID, 1<<42))
	i := must(Enroll(t.Context(), url, f.ca.joinToken(), "test"))
	defer i.Close()
	for range 5 {
		w := i.Client().Watch(t.Context())
		_ = w.Send(&api.WatchRequest{})
		_, _ = w.Receive()
		w.CloseRequest()
		w.CloseResponse()
	}
	if got := fmt.Sprint(f.openings); got != "[1.1 1.4 1.7 1.8 1.9 1.10 1.11]" {
		t.Errorf("openings %s", got)
	}
}
