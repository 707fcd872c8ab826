package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// record is an event with its place in the chain: its hash is over all its
// columns and the hash of the event before it.
type record struct {
	control.Event
	TeamID    string
	CreatedAt time.Time // by the database's clock
	Sequence  int64
	Previous  []byte
	Hash      []byte
}

var eventColumns = []string{
	"team_id", "position", "created_at", "time", "kind", "actor", "agent", "sandbox", "sequence", "request_id", "host", "port",
	"method", "path", "protocol", "decision", "reason", "status", "credential", "version", "lease", "bytes_out", "bytes_in",
	"duration_us", "upstream_us", "redactions", "detail", "prev_hash", "hash",
}

const eventRows = `
	select team_id, position, created_at, time, kind, actor, agent, sandbox, sequence, request_id, host, port,
		method, path, protocol, decision, reason, status, credential, version, lease, bytes_out, bytes_in,
		duration_us, upstream_us, redactions, detail, prev_hash, hash
	from audit_events `

// values are those of eventColumns but the hash.
func (r *record) values() []any {
	return []any{
		r.TeamID, r.ID, r.CreatedAt, r.Time, r.Kind, r.Actor, r.Agent, r.Sandbox, r.Sequence, r.RequestID, r.Host, int64(r.Port),
		r.Method, r.Path, r.Protocol, r.Decision, r.Reason, int64(r.Status), r.Credential, r.Version, r.Lease, r.BytesOut, r.BytesIn,
		r.DurationUS, r.UpstreamUS, int64(r.Redactions), r.Detail, r.Previous,
	}
}

func scanRecord(row pgx.CollectableRow) (record, error) {
	var r record
	err := row.Scan(
		&r.TeamID, &r.ID, &r.CreatedAt, &r.Time, &r.Kind, &r.Actor, &r.Agent, &r.Sandbox, &r.Sequence, &r.RequestID, &r.Host, &r.Port,
		&r.Method, &r.Path, &r.Protocol, &r.Decision, &r.Reason, &r.Status, &r.Credential, &r.Version, &r.Lease, &r.BytesOut, &r.BytesIn,
		&r.DurationUS, &r.UpstreamUS, &r.Redactions, &r.Detail, &r.Previous, &r.Hash)
	return r, err
}

func (r *record) clean() {
	for _, text := range []*string{
		&r.Kind, &r.Actor, &r.Agent, &r.Sandbox, &r.RequestID, &r.Host, &r.Method, &r.Path, &r.Protocol,
		&r.Decision, &r.Reason, &r.Credential, &r.Lease, &r.Detail,
	} {
		*text = clean(*text)
	}
}

// digest is SHA-256 over the values in the order of their columns, each with its
// length before it, so that no two events have the same text. Numbers are 8
// bytes, times microseconds since 1970; both big-endian.
func (r *record) digest() []byte {
	h := sha256.New()
	field := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	field([]byte("sallyport audit event v1"))
	for _, value := range r.values() {
		switch v := value.(type) {
		case string:
			field([]byte(v))
		case []byte:
			field(v)
		case int64:
			field(binary.BigEndian.AppendUint64(nil, uint64(v)))
		case time.Time:
			field(binary.BigEndian.AppendUint64(nil, uint64(v.UnixMicro())))
		default:
			panic(fmt.Sprintf("an event has a %T", v))
		}
	}
	return h.Sum(nil)
}

// follows reports whether r is what was written after last.
func (r *record) follows(last record) bool {
	return r.ID == last.ID+1 && bytes.Equal(r.Previous, last.Hash) && bytes.Equal(r.Hash, r.digest())
}
