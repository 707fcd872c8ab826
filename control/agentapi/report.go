package agentapi

import (
	"context"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/store"
)

// maxBatch bounds the events of one report.
const maxBatch = 1000

// Report stores audit events. A sandbox that was revoked may still tell what it
// did before, for a minute.
func (s *Server) Report(ctx context.Context, request *connect.Request[api.ReportRequest]) (*connect.Response[api.ReportResponse], error) {
	p := peerOf(ctx)
	events := request.Msg.GetEvents()
	if len(events) > maxBatch {
		return nil, control.Errorf(control.CodeInvalid, "a report has at most %d events", maxBatch)
	}
	if err := s.limits.waitForEvents(ctx, p.ID, len(events), proto.Size(request.Msg)); err != nil {
		return nil, err
	}
	reports := make([]store.Report, 0, len(events))
	for i, e := range events {
		if e.GetSequence() == 0 || i > 0 && e.GetSequence() <= events[i-1].GetSequence() {
			return nil, control.Errorf(control.CodeInvalid, "the events of a report are numbered from 1 and in order")
		}
		reports = append(reports, report(e))
	}
	acknowledged, err := s.Store.AppendEvents(ctx, p.Team, p.ID, p.session, reports)
	if err != nil {
		return nil, gone(err)
	}
	s.Metrics.stored(len(reports))
	return connect.NewResponse(&api.ReportResponse{Acknowledged: acknowledged}), nil
}

// report is an event as audit keeps it. What a sidecar wrote is bounded and made
// printable, never refused: an event that can't be stored would hold up all
// those after it.
func report(e *api.Event) store.Report {
	at := e.GetTime().AsTime()
	if !e.GetTime().IsValid() || e.GetTime() == nil {
		at = time.Now().UTC()
	}
	path, _, _ := strings.Cut(e.GetPath(), "?") // a query is never kept, whatever the sidecar sent
	return store.Report{
		Sequence:     e.GetSequence(),
		CredentialID: clean(e.GetCredentialId(), 64),
		Event: control.Event{
			Time:       at,
			RequestID:  clean(e.GetRequestId(), 64),
			Host:       clean(e.GetHost(), 260),
			Port:       int(e.GetPort() & 0xffff),
			Method:     clean(e.GetMethod(), 32),
			Path:       clean(path, 1024),
			Protocol:   clean(e.GetProtocol(), 32),
			Decision:   clean(e.GetDecision(), 32),
			Reason:     clean(e.GetReason(), 256),
			Status:     int(e.GetStatus() % 1000),
			Version:    count(e.GetVersion()),
			Lease:      clean(e.GetLeaseId(), 64),
			BytesOut:   count(e.GetRequestBytes()),
			BytesIn:    count(e.GetResponseBytes()),
			DurationUS: max(0, e.GetDuration().AsDuration().Microseconds()),
			UpstreamUS: max(0, e.GetUpstream().AsDuration().Microseconds()),
			Redactions: int(min(e.GetRedactions(), 1<<31-1)),
		},
	}
}

// count is n, or the largest number that the database can hold.
func count(n uint64) int64 { return int64(min(n, 1<<63-1)) }

// clean cuts s to length bytes and replaces control characters, which would be
// commands to a terminal and which the database refuses.
func clean(s string, length int) string {
	if len(s) <= length && plain(s) {
		return s
	}
	s = strings.ToValidUTF8(s[:min(len(s), length)], "\uFFFD")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '\uFFFD'
		}
		return r
	}, s)
}

// plain reports whether s is of printable ASCII alone, as nearly every text is.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
