package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/control/places"
)

// drainTimeout bounds the wait for requests under way when serving ends.
const drainTimeout = 10 * time.Second

// Serve answers on listener until ctx ends, waits a little for the requests
// under way, and returns nil. Without certificates it speaks plain HTTP, and
// only on a loopback address: tokens and secrets must not cross a network readable.
func (s *Server) Serve(ctx context.Context, listener net.Listener, certificates *tls.Config) error {
	if certificates == nil && !isLoopback(listener.Addr()) {
		return fmt.Errorf("the admin API does not speak plain HTTP on %s; it needs a certificate there", listener.Addr())
	}
	handler := s.Front
	if handler == nil {
		handler = s
	}
	server := &http.Server{
		Handler:           handler,
		TLSConfig:         certificates,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      requestTimeout + 10*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	bounded := places.Bound(listener, s.Connections)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if server.Shutdown(drain) != nil {
			server.Close()
		}
		return nil
	})
	group.Go(func() error {
		var err error
		if certificates == nil {
			err = server.Serve(bounded)
		} else {
			err = server.ServeTLS(bounded, "", "")
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	})
	return group.Wait()
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
