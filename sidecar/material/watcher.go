package material

import (
	"context"
	"log/slog"

	"connectrpc.com/connect"

	"sallyport/control/api"
)

// WatchClient is the call that follows the bindings.
type WatchClient interface {
	Watch(context.Context) *connect.BidiStreamForClient[api.WatchRequest, api.WatchResponse]
}

// Watcher follows a sandbox's bindings. Its functions are never called at the same time.
type Watcher struct {
	Client WatchClient
	// Apply puts a revision in place. When it fails, the last good one stays and nothing is acknowledged.
	Apply func(revision uint64, bindings []*api.Binding, destinations []*api.Destination) error
	// Revoked is called when the control plane says that the sandbox may have nothing any more.
	Revoked func()
	// Expired is called when the control plane was away for longer than bindings may serve. The next Apply ends that.
	Expired func()
	Log     *slog.Logger
}

// Run follows the bindings until ctx ends or the sandbox is revoked, and returns nil.
func (w *Watcher) Run(ctx context.Context) error { panic("being built") }
