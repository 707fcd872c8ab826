package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
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

const eventColumns = `team_id, position, created_at, time, kind, actor, agent, sandbox, sequence, request_id, host, port,
	method, path, protocol, decision, reason, status, credential, version, lease, bytes_out, bytes_in,
	duration_us, upstream_us, redactions, detail, prev_hash, hash`

const eventRows = "select " + eventColumns + " from audit_log "

// encoder takes the values of a record one after another.
type encoder interface {
	id(string)
	text(string)
	number(int64)
	time(time.Time)
	bytes([]byte)
}

// encode gives e the values of eventColumns but the hash.
func (r *record) encode(e encoder) {
	e.id(r.TeamID)
	e.number(r.ID)
	e.time(r.CreatedAt)
	e.time(r.Time)
	e.text(r.Kind)
	e.text(r.Actor)
	e.text(r.Agent)
	e.text(r.Sandbox)
	e.number(r.Sequence)
	e.text(r.RequestID)
	e.text(r.Host)
	e.number(int64(r.Port))
	e.text(r.Method)
	e.text(r.Path)
	e.text(r.Protocol)
	e.text(r.Decision)
	e.text(r.Reason)
	e.number(int64(r.Status))
	e.text(r.Credential)
	e.number(r.Version)
	e.text(r.Lease)
	e.number(r.BytesOut)
	e.number(r.BytesIn)
	e.number(r.DurationUS)
	e.number(r.UpstreamUS)
	e.number(int64(r.Redactions))
	e.text(r.Detail)
	e.bytes(r.Previous)
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

// digester is SHA-256 over the values in the order of their columns, each with
// its length before it, so that no two events have the same text. Numbers are 8
// bytes, times microseconds since 1970; both big-endian.
type digester struct{ buffer []byte }

func (d *digester) of(r *record) []byte {
	d.buffer = d.buffer[:0]
	d.text("sallyport audit event v1")
	r.encode(d)
	sum := sha256.Sum256(d.buffer)
	return sum[:]
}

func (d *digester) id(s string)       { d.text(s) }
func (d *digester) time(at time.Time) { d.number(at.UnixMicro()) }

func (d *digester) text(s string) {
	d.buffer = append(binary.BigEndian.AppendUint64(d.buffer, uint64(len(s))), s...)
}

func (d *digester) bytes(b []byte) {
	d.buffer = append(binary.BigEndian.AppendUint64(d.buffer, uint64(len(b))), b...)
}

func (d *digester) number(n int64) {
	d.buffer = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(d.buffer, 8), uint64(n))
}

// follows reports whether r is what was written after last.
func (r *record) follows(last record, digest *digester) bool {
	return r.ID == last.ID+1 && bytes.Equal(r.Previous, last.Hash) && bytes.Equal(r.Hash, digest.of(r))
}
