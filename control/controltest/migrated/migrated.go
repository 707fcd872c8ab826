// Package migrated gives tests a Postgres cluster with the control plane's schema.
package migrated

import (
	"context"
	"log/slog"

	"sallyport/control/controltest/cluster"
	"sallyport/control/store"
)

// Lay puts one where a control plane with that data directory has its own, as if the first
// start had ended when the schema was there.
func Lay(dataDir string) error {
	return cluster.Seed{
		Name:    "migrated",
		Sources: []string{"control/store/*.go", "control/store/migrations/*"},
		Prepare: func(ctx context.Context, url string) error {
			s, err := store.Open(ctx, url, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			s.Close()
			return nil
		},
	}.Lay(dataDir)
}
