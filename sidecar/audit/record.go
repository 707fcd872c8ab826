package audit

import (
	"encoding/binary"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/control/api"
)

// An event as the journal has it, in two parts: what is known before the request
// goes out, and what came of it. Numbers are little-endian, texts have their length
// in two bytes before them. Every request pays for this before it is sent, and
// protobuf takes five times as long.

const (
	factsSize   = 3*8 + 4 + 8*2 // without the texts
	outcomeSize = 5*8 + 2*4 + 2*2
)

func appendFacts(b []byte, e *api.Event) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(e.GetTime().GetSeconds()))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.GetTime().GetNanos()))
	b = binary.LittleEndian.AppendUint64(b, e.Version)
	b = binary.LittleEndian.AppendUint32(b, e.Port)
	for _, s := range [...]string{e.RequestId, e.Host, e.Method, e.Path, e.Protocol, e.Decision, e.CredentialId, e.LeaseId} {
		b = appendText(b, s)
	}
	return b
}

func appendOutcome(b []byte, e *api.Event) []byte {
	b = binary.LittleEndian.AppendUint64(b, e.Sequence)
	b = binary.LittleEndian.AppendUint64(b, e.RequestBytes)
	b = binary.LittleEndian.AppendUint64(b, e.ResponseBytes)
	b = binary.LittleEndian.AppendUint64(b, nanoseconds(e.Duration))
	b = binary.LittleEndian.AppendUint64(b, nanoseconds(e.Upstream))
	b = binary.LittleEndian.AppendUint32(b, e.Status)
	b = binary.LittleEndian.AppendUint32(b, e.Redactions)
	return appendText(appendText(b, e.Decision), e.Reason)
}

func nanoseconds(d *durationpb.Duration) uint64 {
	return uint64(d.GetSeconds()*int64(time.Second) + int64(d.GetNanos()))
}

func appendText(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(s))), s...)
}

// reader takes values out of b, whoever wrote it; short is set when there are too few.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.short, r.b = true, nil
		return make([]byte, 8)[:min(n, 8)]
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) u64() uint64  { return binary.LittleEndian.Uint64(r.take(8)) }
func (r *reader) u32() uint32  { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) text() string { return string(r.take(int(binary.LittleEndian.Uint16(r.take(2))))) }

// readFacts gives nil for what is none.
func readFacts(b []byte) *api.Event {
	r, e := &reader{b: b}, &api.Event{Duration: new(durationpb.Duration), Upstream: new(durationpb.Duration)}
	e.Time = &timestamppb.Timestamp{Seconds: int64(r.u64()), Nanos: int32(r.u64())}
	e.Version, e.Port = r.u64(), r.u32()
	for _, field := range [...]*string{&e.RequestId, &e.Host, &e.Method, &e.Path, &e.Protocol, &e.Decision, &e.CredentialId, &e.LeaseId} {
		*field = r.text()
	}
	if r.short || e.Time.CheckValid() != nil {
		return nil
	}
	return e
}

// readOutcome fills in what came of e, if b says it.
func readOutcome(b []byte, e *api.Event) {
	r, o := &reader{b: b}, new(api.Event)
	o.Sequence, o.RequestBytes, o.ResponseBytes = r.u64(), r.u64(), r.u64()
	o.Duration, o.Upstream = durationpb.New(time.Duration(r.u64())), durationpb.New(time.Duration(r.u64()))
	o.Status, o.Redactions = r.u32(), r.u32()
	o.Decision, o.Reason = r.text(), r.text()
	if r.short {
		return
	}
	e.Sequence, e.RequestBytes, e.ResponseBytes, e.Duration, e.Upstream = o.Sequence, o.RequestBytes, o.ResponseBytes, o.Duration, o.Upstream
	e.Status, e.Redactions, e.Decision, e.Reason = o.Status, o.Redactions, o.Decision, o.Reason
}
