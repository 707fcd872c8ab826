package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// maxFrame is the longest frame a client may send: what RFC 9113 section 4.2 has
// for a default. net/http keeps a buffer for the longest a connection had.
const maxFrame = 16 << 10

// clientWindow is how much a client may have sent on a connection that is not read
// yet. It is on this machine, where a window need not span a long way.
const clientWindow = 256 << 10

// http2Server serves the clients that speak HTTP/2, by net/http.
type http2Server struct {
	*http.Server
	log     *slog.Logger
	address net.Addr
	passed  chan net.Conn
	done    chan struct{}
	once    sync.Once
}

func newHTTP2Server(s *Server, address net.Addr) *http2Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http2Server{
		Server: &http.Server{
			Handler:                      s,
			ConnState:                    s.connState,
			ReadHeaderTimeout:            headTimeout,
			IdleTimeout:                  idleTimeout,
			MaxHeaderBytes:               2 * maxHead, // longer ones than maxHead are for takeHTTP2 to refuse
			Protocols:                    protocols,
			HTTP2:                        &http.HTTP2Config{MaxReadFrameSize: maxFrame, MaxReceiveBufferPerConnection: clientWindow, MaxReceiveBufferPerStream: clientWindow, SendPingTimeout: pingAfter, CountError: s.config.Malformed},
			DisableGeneralOptionsHandler: true,
			ErrorLog:                     slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
			ConnContext: func(ctx context.Context, c net.Conn) context.Context {
				return context.WithValue(ctx, factsKey{}, s.config.Facts(c))
			},
		},
		log: s.config.Log, address: address, passed: make(chan net.Conn), done: make(chan struct{}),
	}
}

// serve ends when shutdown has begun.
func (h *http2Server) serve() {
	if err := h.Serve(h); !errors.Is(err, http.ErrServerClosed) {
		h.log.Error("HTTP/2 is not served any more", "error", err)
	}
}

// take hands a connection over, or closes it when none is taken any more.
func (h *http2Server) take(c net.Conn) {
	select {
	case h.passed <- c:
	case <-h.done:
		c.Close()
	}
}

// Accept gives net/http the next connection.
func (h *http2Server) Accept() (net.Conn, error) {
	select {
	case c := <-h.passed:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close stops accepting.
func (h *http2Server) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr is the listener's that the connections come from.
func (h *http2Server) Addr() net.Addr { return h.address }

func (h *http2Server) shutdown(bound context.Context) {
	if err := h.Shutdown(bound); err != nil {
		h.log.Warn("HTTP/2 requests were cut off", "error", err)
		h.Server.Close()
	}
}

// checkFields refuses a list of fields that is too long. net/http has refused
// those that RFC 9113 section 8.2.2 does, with a 400 of its own.
func checkFields(r *http.Request) *Error {
	for name := range r.Header {
		if folded := strings.ReplaceAll(name, "_", "-"); folded != name && (strings.EqualFold(folded, "Content-Length") || strings.EqualFold(folded, "Transfer-Encoding")) {
			return Errorf(http.StatusBadRequest, "malformed_request", "the header field %q could be taken for %s", name, folded)
		}
	}
	if size := headSize(r); size > maxHead {
		return Errorf(http.StatusRequestHeaderFieldsTooLarge, "head_too_large", "the request's fields have %d bytes; %d are allowed", size, maxHead)
	}
	return nil
}

// fieldOverhead is what a field counts beyond its text, RFC 9113 section 6.5.2.
const fieldOverhead = 32

// takeHTTP2 judges a request by what HTTP/2 adds, and makes one that HTTP/1.1 has
// of one that it has not.
func (t *travel) takeHTTP2(r *http.Request) *Error {
	if err := checkFields(r); err != nil {
		return err
	}
	socket, err := takeConnect(r)
	if socket {
		t.socket, t.Method, t.body = true, r.Method, nil
	}
	return err
}

// connState tells of connections that have no stream open.
func (s *Server) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateIdle:
		s.idle(c, true)
	case http.StateActive:
		s.idle(c, false)
	}
}

type factsKey struct{}

// ServeHTTP carries out a request that came by HTTP/2.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	facts := r.Context().Value(factsKey{}).(Facts)
	c := &stream{ResponseWriter: w, ctx: r.Context(), buffers: &s.buffers, data: r.Body}
	defer c.begin() // nothing is written when this has returned
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p)
		default:
			s.fault(p)
			panic(http.ErrAbortHandler) // net/http would tell the other
		}
	}()
	if err := s.handle(r.Context(), c, r, facts, false); err != nil {
		panic(http.ErrAbortHandler) // net/http resets the stream
	}
}

// stream is a client's request in HTTP/2.
type stream struct {
	http.ResponseWriter
	ctx     context.Context // ends with the stream
	buffers *buffers
	data    io.ReadCloser // of the stream
	stall

	mu    sync.Mutex // of what is written: net/http's transport tells of a 1xx when it likes
	begun bool       // the final response has
}

// begin ends the time of 1xx answers.
func (s *stream) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = true
}

func (s *stream) interim(status int, header http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun || s.ctx.Err() != nil || status == http.StatusContinue {
		return // net/http tells of 100
	}
	h := s.Header()
	for name, values := range header {
		h[name] = values
	}
	s.WriteHeader(status)
	if s.ctx.Err() == nil { // else net/http may still be reading it
		clear(h)
	}
}

func (s *stream) respond(response *http.Response) (int64, error) {
	s.begin()
	if err := s.ctx.Err(); err != nil {
		return 0, fmt.Errorf("write the response: %w", err)
	}
	h := s.Header()
	for name, values := range response.Header {
		h[name] = values
	}
	if _, named := h["Content-Type"]; !named {
		h["Content-Type"] = nil // else net/http guesses one
	}
	announced := len(response.Trailer)
	for name := range response.Trailer {
		h.Add("Trailer", name)
	}
	s.WriteHeader(response.StatusCode)
	n, err := s.copy(response.Body)
	if err != nil {
		return n, err
	}
	for name, values := range response.Trailer {
		if len(response.Trailer) != announced {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
	return n, nil
}

// copy passes a body on, each piece at once.
func (s *stream) copy(body io.Reader) (total int64, err error) {
	flusher := http.NewResponseController(s.ResponseWriter)
	w := s.buffers.writer()
	defer s.buffers.putWriter(w)
	buffer := w.bytes[:cap(w.bytes)]
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			total += int64(n)
			s.stall.begin()
			if _, err := s.Write(buffer[:n]); err != nil {
				return total, fmt.Errorf("write the response: %w", err)
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, fmt.Errorf("read the response: %w", err)
		}
		if err := flusher.Flush(); err != nil {
			return total, fmt.Errorf("write the response: %w", err)
		}
		s.stall.end()
	}
}

// upgrade answers the CONNECT that asked for the change (RFC 8441 section 5).
func (s *stream) upgrade(response *http.Response) (io.ReadWriteCloser, error) {
	s.begin()
	removeHopByHop(response.Header)
	delete(response.Header, "Sec-Websocket-Accept")
	h := s.Header()
	for name, values := range response.Header {
		h[name] = values
	}
	s.WriteHeader(http.StatusOK)
	controller := http.NewResponseController(s.ResponseWriter)
	if err := controller.Flush(); err != nil {
		return nil, fmt.Errorf("write the response: %w", err)
	}
	return &channel{s, controller}, nil
}

// channel is what a stream carries after its protocol changed.
type channel struct {
	stream     *stream
	controller *http.ResponseController
}

func (c *channel) Read(p []byte) (int, error) { return c.stream.data.Read(p) }

func (c *channel) Write(p []byte) (int, error) {
	n, err := c.stream.Write(p)
	if err != nil {
		return n, err
	}
	return n, c.controller.Flush()
}

// Close ends what is read. The end of what is written is that of the handler.
func (c *channel) Close() error { return c.stream.data.Close() }

// abort ends a Write too, that waits for the client to read.
func (c *channel) abort() { c.stream.abort() }

func (s *stream) abort() {
	// It can't be set only on a stream that has ended.
	_ = http.NewResponseController(s.ResponseWriter).SetWriteDeadline(time.Unix(1, 0))
}

// stopBody ends a Read of the stream too that waits for the client.
func (s *stream) stopBody() { s.data.Close() }
