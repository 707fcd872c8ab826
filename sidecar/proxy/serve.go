package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	headTimeout = 30 * time.Second
	idleTimeout = 10 * time.Minute
	// maxHead bounds a request's head; the reader before us holds HTTP/1 to the same.
	maxHead = 64 << 10
	// drainTimeout is how long requests may go on after the end was asked for.
	drainTimeout = 10 * time.Second
)

// Serve serves the listener's connections until ctx ends, then lets requests
// under way finish for a bounded time. HTTP/1 connections must have been read
// strictly: what they carry is taken to have one meaning.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	defer s.upstreams.close()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	behind, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	second := newHTTP2Server(s, listener.Addr())
	var serving sync.WaitGroup
	serving.Go(func() { second.serve() })
	watched, unwatch := context.WithCancel(behind)
	serving.Go(func() { s.load.watch(watched) })
	err := s.accept(behind, listener, second, &serving)

	bound, release := context.WithTimeout(behind, drainTimeout)
	defer release()
	forced := context.AfterFunc(bound, func() { s.fronts.close() })
	defer forced()
	s.fronts.drain()
	s.tunnels.close() // nobody knows when they would end
	second.shutdown(bound)
	unwatch()
	serving.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("serve the sandbox: %w", err)
}

func (s *Server) accept(ctx context.Context, listener net.Listener, second *http2Server, serving *sync.WaitGroup) error {
	for {
		c, err := listener.Accept()
		if err != nil {
			return err
		}
		facts := s.config.Facts(c)
		if facts.HTTP2 {
			second.take(c)
			continue
		}
		serving.Go(func() { s.serveHTTP1(ctx, c, facts) })
	}
}

// fronts are the HTTP/1 connections that are open.
type fronts struct {
	mu       sync.Mutex
	open     map[*front]struct{}
	draining bool
}

// add is false when no connection is taken any more.
func (f *fronts) add(c *front) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.draining {
		return false
	}
	if f.open == nil {
		f.open = make(map[*front]struct{})
	}
	f.open[c] = struct{}{}
	return true
}

func (f *fronts) remove(c *front) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, c)
}

// drain ends the connections that wait for a request, and lets the others finish
// the one they have.
func (f *fronts) drain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.draining = true
	for c := range f.open {
		if c.state.Swap(frontDraining) == frontIdle {
			c.conn.Close()
		}
	}
}

// close ends all connections.
func (f *fronts) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.open {
		c.leave()
		c.conn.Close()
	}
}
