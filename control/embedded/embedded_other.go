//go:build !linux

// Package embedded supervises a private Postgres cluster, on Linux.
package embedded

import (
	"context"
	"errors"
	"log/slog"
)

// Cluster is a running Postgres. There is none on this system.
type Cluster struct{}

// Start fails: the processes of a cluster can be told only on Linux.
func Start(context.Context, string, *slog.Logger) (*Cluster, error) {
	return nil, errors.New("the embedded database runs on Linux only: give --database URL")
}

// URL is empty.
func (c *Cluster) URL() string { return "" }

// Stop does nothing.
func (c *Cluster) Stop(context.Context) error { return nil }
