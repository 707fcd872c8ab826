package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
)

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
	return &http2Server{
		Server: &http.Server{
			Handler:                      s,
			ReadHeaderTimeout:            headTimeout,
			IdleTimeout:                  idleTimeout,
			MaxHeaderBytes:               maxHead,
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

type factsKey struct{}

// ServeHTTP carries out a request that came by HTTP/2.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	facts := r.Context().Value(factsKey{}).(Facts)
	if err := s.handle(r.Context(), &stream{w, &s.buffers}, r, facts, false); err != nil {
		panic(http.ErrAbortHandler) // net/http resets the stream
	}
}

// stream is a client's request in HTTP/2.
type stream struct {
	http.ResponseWriter
	buffers *buffers
}

func (s *stream) interim(status int, header http.Header) {
	if status == http.StatusContinue {
		return // net/http tells it
	}
	h := s.Header()
	for name, values := range header {
		h[name] = values
	}
	s.WriteHeader(status)
	clear(h)
}

func (s *stream) respond(response *http.Response) (int64, error) {
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
	}
}

func (s *stream) upgrade(*http.Response) (io.ReadWriteCloser, error) {
	return nil, errors.New("HTTP/2 has no upgrade")
}

// stopBody does nothing: net/http ends the body with its handler.
func (s *stream) stopBody() {}
