// Package embedded supervises a private Postgres cluster under a data
// directory, from the binaries that are installed.
package embedded

import (
	"context"
	"errors"
	"log/slog"
)

// Cluster is a running Postgres that only this process's user can reach.
type Cluster struct{ url string }

// Start makes the cluster under dataDir at first and starts it.
func Start(ctx context.Context, dataDir string, log *slog.Logger) (*Cluster, error) {
	return nil, errors.New("not yet")
}

// URL is what store.Open takes.
func (c *Cluster) URL() string { return c.url }

// Stop shuts it down.
func (c *Cluster) Stop(ctx context.Context) error { return nil }
