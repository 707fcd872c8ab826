// Package strict stands between a client's connection and net/http and lets
// only one reading of HTTP/1 through.
package strict

import "net"

// Limits bound a connection. The zero value is good.
type Limits struct {
	Head      int           // bytes of a request's head; 0: 64 KiB
	Fields    int           // header fields; 0: 128
	Proxy     bool          // absolute-form and CONNECT are allowed: the client knows it speaks to a proxy
	RequestID func() string // names a refused request in its answer; nil: random
	Rejected  func(*Error)  // told of a refusal, at most once; nil: nobody
}

// Error is a refusal.
type Error struct {
	Status  int    // of the answer
	Code    string // stable, for programs
	Message string // for people
}

func (e *Error) Error() string { return e.Message }

// Conn is a connection that net/http's server reads requests from.
type Conn struct {
	net.Conn
}

// NewConn wraps a client's connection.
func NewConn(c net.Conn, limits Limits) *Conn { return &Conn{Conn: c} }

// Release makes the connection transparent: to be called when its handler has
// hijacked it (http.StateHijacked).
func (c *Conn) Release() {}

// NetConn is the connection wrapped.
func (c *Conn) NetConn() net.Conn { return c.Conn }
