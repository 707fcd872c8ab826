// Package cluster gives a package's tests one Postgres.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"sallyport/control/embedded"
)

// Main is TestMain for packages whose tests make databases: it fills *c. What of
// after fails when the cluster has ended fails the tests.
func Main(m *testing.M, c **embedded.Cluster, after ...func() error) {
	status, err := run(m, c)
	for _, f := range after {
		err = errors.Join(err, f())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		status = 1
	}
	os.Exit(status)
}

func run(m *testing.M, c **embedded.Cluster) (status int, err error) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if err := Empty.Lay(dir); err != nil {
		return 1, err
	}
	if *c, err = embedded.Start(context.Background(), dir, slog.New(slog.DiscardHandler)); err != nil {
		return 1, err
	}
	defer (*c).Stop(context.Background())
	return m.Run(), nil
}
