package store

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport/control"
)

// Every error of the database that the caller can do something about says so.
func TestInterpret(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code control.Code
	}{
		{io.ErrUnexpectedEOF, control.CodeUnavailable},
		{fmt.Errorf("read: %w", io.EOF), control.CodeUnavailable},
		{net.ErrClosed, control.CodeUnavailable},
		{&pgconn.PgError{Code: "57P01"}, control.CodeUnavailable},
		{&pgconn.PgError{Code: "53100"}, control.CodeUnavailable}, // disk full
		{&pgconn.PgError{Code: "53200"}, control.CodeUnavailable}, // out of memory
		{&pgconn.PgError{Code: "22021"}, control.CodeInvalid},     // NUL
		{&pgconn.PgError{Code: "22P02"}, control.CodeNotFound},    // no id
		{&pgconn.PgError{Code: "42601"}, ""},                      // a mistake of ours
		{context.Canceled, ""},
	} {
		if code := control.CodeOf(interpret(tc.err, "test", "such thing")); code != tc.code {
			t.Errorf("%v: code %q, want %q", tc.err, code, tc.code)
		}
	}
}

// A cursor is text from outside.
func TestBadCursors(t *testing.T) {
	f := newFixture(t)
	for _, cursor := range []string{"a\x00b", "\xff"} {
		_, _, err := f.Vaults(t.Context(), f.Team.ID, Page{After: cursor})
		wantCode(t, err, control.CodeInvalid)
		_, _, err = f.Sandboxes(t.Context(), f.Team.ID, Page{After: cursor})
		wantCode(t, err, control.CodeInvalid)
	}
}

// A connection that the database has dropped is not a mistake of ours.
func TestConnectionLost(t *testing.T) {
	f := newFixture(t)
	conn, err := f.Store.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	conn.Conn().PgConn().Conn().Close()
	for range 2 { // as it is noticed, and after
		var n int
		err := interpret(conn.QueryRow(t.Context(), "select 1").Scan(&n), "test", "")
		wantCode(t, err, control.CodeUnavailable)
	}
}
