// Package strict stands between a client's connection and net/http and lets
// only one reading of HTTP/1 through. net/http is lenient where other servers
// are too, each in its own way; where two read one stream of bytes differently
// a request can be smuggled.
//
// Conn reads along: head, body by Content-Length or chunks, next head. It hands
// bytes on as they come, but the line feed that would complete a line only
// after the line was found good, so net/http never acts on a bad one. One Read
// never gives bytes of two requests.
//
//	client ── bytes ──▶ Conn ── the same bytes ──▶ net/http
//	             400 ◀────┴── at the first that could be read in two ways
//
// Trailers are checked and left out. What follows is refused, as RFC 9112 lets
// a server do: Content-Length twice or beside Transfer-Encoding, any coding but
// chunked, any in HTTP/1.0, versions but 1.0 and 1.1, line ends but CR LF,
// folded fields, chunk extensions, no Host or two, control characters, targets
// that are not RFC 3986, and names that CGI would take for the framing fields'.
package strict

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Limits bound a connection. The zero value is good.
type Limits struct {
	Head      int           // bytes of a request's head, and of its trailers; 0: 64 KiB
	Fields    int           // header fields; 0: 128
	Proxy     bool          // absolute-form and CONNECT are allowed: the client knows it speaks to a proxy
	RequestID func() string // names a refused request in its answer; nil: random
	Rejected  func(*Error)  // told of a refused head, at most once; a refused body is an error of its Read; nil: nobody
}

const (
	defaultHead   = 64 << 10
	defaultFields = 128
)

// Error is a refusal. Read returns it in a *net.OpError, as an error of the
// network, which net/http's server neither answers nor logs.
type Error struct {
	Status  int    // of the answer
	Code    string // stable, for programs
	Message string // for people
}

func (e *Error) Error() string { return e.Message }

func malformed(format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: "malformed_request", Message: fmt.Sprintf(format, args...)}
}

// Conn is a connection that net/http's server reads requests from. A server
// that uses it sets DisableGeneralOptionsHandler and calls Release when a
// handler has taken the connection over (http.StateHijacked).
type Conn struct {
	net.Conn
	parser   parser
	rest     []byte // read, but not yet looked at
	err      error  // of every Read from now on
	refusal  *Error // becomes err at the next Read
	released atomic.Bool
	answered atomic.Bool

	// After a request that may switch protocols, one byte is handed on before
	// it is known what it is: net/http reads it to see whether the client is
	// still there. When net/http reads on, it was the first of a request.
	doubt doubt
	first byte
}

type doubt uint8

const (
	certain  doubt = iota
	doubtful       // the next byte may be of another protocol
	advanced       // it was handed on, and is first
)

// NewConn wraps a client's connection.
func NewConn(c net.Conn, limits Limits) *Conn {
	if limits.Head == 0 {
		limits.Head = defaultHead
	}
	if limits.Fields == 0 {
		limits.Fields = defaultFields
	}
	if limits.RequestID == nil {
		limits.RequestID = rand.Text
	}
	return &Conn{Conn: c, parser: parser{limits: limits}}
}

// NetConn is the connection wrapped.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Release makes the connection transparent: what follows is no HTTP/1. It must
// not be called during a Read.
func (c *Conn) Release() { c.released.Store(true) }

// Read reads bytes of one request at most. A refusal is a *net.OpError around
// an *Error. It was answered if no response can be under way; within a body it
// is the handler's to answer, which gets it from Request.Body.
func (c *Conn) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case c.released.Load():
		return c.input(p)
	case c.err != nil:
		return 0, c.err
	case c.refusal != nil:
		return 0, c.refuse(c.refusal, c.parser.inHead())
	case c.doubt == doubtful:
		n, err := c.input(p[:1])
		if n == 1 {
			c.doubt, c.first = advanced, p[0]
		}
		return n, err
	case c.doubt == advanced:
		c.doubt = certain
		if _, _, refusal := c.parser.feed([]byte{c.first}); refusal != nil {
			return 0, c.refuse(refusal, true)
		}
	}
	// Before any of its bytes went out, reading a request may be but net/http's
	// look ahead while the response to the one before is under way.
	answer := c.parser.requests == 0 || c.parser.size > 0
	for {
		rest := c.rest
		n, err := c.input(p)
		if n == 0 {
			return 0, c.ended(err)
		}
		out, seen := c.filter(p[:n])
		if len(rest) > 0 {
			c.rest = rest[seen:]
		} else if seen < n {
			c.rest = append([]byte(nil), p[seen:n]...)
		}
		if out > 0 {
			return out, nil // an err will come again
		}
		if c.refusal != nil {
			return 0, c.refuse(c.refusal, answer && c.parser.inHead())
		}
		if err != nil {
			return 0, c.ended(err)
		}
	}
}

// ended is what Read makes of err. A head that the client does not go on with
// is refused, for net/http would take the part of a line for a whole one.
func (c *Conn) ended(err error) error {
	if err == io.EOF && c.parser.inHead() && c.parser.size > 0 {
		return c.refuse(malformed("the connection ended within the head of a request"), true)
	}
	return err
}

// Write writes a response. After a refusal was answered nothing more is written:
// net/http takes the part of a line that it got for a whole one, and would refuse
// it in its own words.
func (c *Conn) Write(p []byte) (int, error) {
	if c.answered.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// input reads what was left over, or from the connection.
func (c *Conn) input(p []byte) (int, error) {
	if len(c.rest) == 0 {
		c.rest = nil
		return c.Conn.Read(p)
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// filter looks at b up to the end of a request. It moves what goes on to the
// front of b and says how much that is and how much it has seen.
func (c *Conn) filter(b []byte) (out, seen int) {
	for seen < len(b) {
		n, pass, refusal := c.parser.feed(b[seen:])
		if pass {
			out += copy(b[out:], b[seen:seen+n])
		}
		seen += n
		if refusal != nil {
			c.refusal = refusal
			break
		}
		if c.parser.ended {
			c.parser.ended = false
			if c.parser.switches {
				c.doubt = doubtful
			}
			break
		}
	}
	return out, seen
}

const (
	answerTimeout = 5 * time.Second
	lingerTimeout = 500 * time.Millisecond // as net/http
	lingerBytes   = 256 << 10
)

// refuse ends the connection, with an answer if one may be written.
func (c *Conn) refuse(e *Error, answer bool) error {
	c.rest, c.refusal = nil, nil
	c.err = &net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: e}
	if c.parser.limits.Rejected != nil && c.parser.inHead() {
		c.parser.limits.Rejected(e)
	}
	if answer {
		c.answered.Store(true)
		c.answer(e)
	}
	return c.err
}

// answer writes a response and waits a little for the client to read it: a
// connection closed with bytes unread is reset, and the response may be lost.
// All of it is best effort, for the connection ends in any case.
func (c *Conn) answer(e *Error) {
	var body struct {
		Error struct {
			Code      string `json:"code"`
			Message   string `json:"message"`
			RequestID string `json:"request_id"`
		} `json:"error"`
	}
	body.Error.Code, body.Error.Message, body.Error.RequestID = e.Code, e.Message, c.parser.limits.RequestID()
	text, err := json.Marshal(body)
	if err != nil {
		return
	}
	now := time.Now()
	_ = c.SetWriteDeadline(now.Add(answerTimeout))
	_, err = fmt.Fprintf(c.Conn, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nSallyport-Error: %s\r\nConnection: close\r\n\r\n%s",
		e.Status, http.StatusText(e.Status), len(text), e.Code, text)
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && err == nil {
		_ = half.CloseWrite()
		_ = c.SetReadDeadline(now.Add(lingerTimeout))
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
	}
}
