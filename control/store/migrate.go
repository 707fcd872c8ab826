package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date. Processes that start at once take turns
// by an advisory lock. It works as the user of the URL, who owns the tables.
func migrate(ctx context.Context, config pgx.ConnConfig) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	const probe, patience = 1, 300 // seconds, tries
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(probe, patience))
	if err != nil {
		return fmt.Errorf("prepare the migrations' lock: %w", err)
	}
	db := stdlib.OpenDB(config)
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("prepare the migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return interpret(err, "migrate the database", "")
	}
	version, err := provider.GetDBVersion(ctx)
	if err != nil {
		return interpret(err, "read the database's version", "")
	}
	sources := provider.ListSources()
	if known := sources[len(sources)-1].Version; version > known {
		return fmt.Errorf("the database was migrated by a newer control plane (to version %d; this one knows %d): start that one, or a later", version, known)
	}
	return nil
}
