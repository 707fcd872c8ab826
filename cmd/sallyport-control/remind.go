package main

import (
	"context"
	"log/slog"
	"time"

	"sallyport/control/store"
)

// remindEvery is how often is looked for credentials that are due to be rotated.
const remindEvery = 10 * time.Minute

// remind tells of credentials that are due to be rotated until ctx ends.
func remind(ctx context.Context, s *store.Store, counted *metrics, log *slog.Logger) error {
	for {
		overdue, err := s.RemindDue(ctx)
		if err != nil && ctx.Err() == nil {
			log.Error("not all teams were told which credentials are due to be rotated; tried again", "in", remindEvery, "error", err)
		} else {
			counted.due(overdue)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(remindEvery):
		}
	}
}
