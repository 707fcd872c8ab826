package store

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
)

const copyEvents = "copy audit_events (" + eventColumns + ") from stdin binary"

// copyRows is the input of copyEvents: rows in COPY's binary format (PostgreSQL
// manual, COPY, File Formats). pgx has an encoder for any value, which costs more
// than all the rest that is done with an event here.
type copyRows struct {
	buffer  []byte
	columns uint16
}

func newCopyRows() *copyRows {
	const signature, flags, extension = "PGCOPY\n\xff\r\n\x00", "\x00\x00\x00\x00", "\x00\x00\x00\x00"
	return &copyRows{
		buffer:  []byte(signature + flags + extension),
		columns: uint16(strings.Count(eventColumns, ",") + 1),
	}
}

func (c *copyRows) add(r *record) {
	c.buffer = binary.BigEndian.AppendUint16(c.buffer, c.columns)
	r.encode(c)
	c.bytes(r.Hash)
}

// end gives all that was added.
func (c *copyRows) end() io.Reader {
	return bytes.NewReader(binary.BigEndian.AppendUint16(c.buffer, 0xffff))
}

// id takes what was read from a column of ids.
func (c *copyRows) id(s string) {
	id := uuid.MustParse(s)
	c.bytes(id[:])
}

// epoch is when Postgres' time begins: 2000-01-01, in microseconds since 1970.
const epoch = 946_684_800_000_000

func (c *copyRows) time(at time.Time) { c.number(at.UnixMicro() - epoch) }

func (c *copyRows) text(s string) {
	c.buffer = append(binary.BigEndian.AppendUint32(c.buffer, uint32(len(s))), s...)
}

func (c *copyRows) bytes(b []byte) {
	c.buffer = append(binary.BigEndian.AppendUint32(c.buffer, uint32(len(b))), b...)
}

func (c *copyRows) number(n int64) {
	c.buffer = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(c.buffer, 8), uint64(n))
}
