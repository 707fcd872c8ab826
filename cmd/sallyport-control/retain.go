package main

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"sallyport/control/store"
)

const (
	day = 24 * time.Hour
	// leastRetention is about what investigations need at the least; what laws and
	// standards ask for is longer.
	leastRetention = 30 * day
	retainEvery    = 6 * time.Hour
	// monthsEvery bounds how long events are refused after the database's clock has leapt
	// into a month that nothing was made for.
	monthsEvery = time.Minute
)

// retention is how long audit events are kept; 0 for ever.
type retention time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *retention) UnmarshalText(text []byte) error {
	keep, err := time.ParseDuration(string(text))
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		keep = time.Duration(min(n, 100_000)) * day
	}
	if err != nil || keep < leastRetention {
		return fmt.Errorf("%q: audit events are kept for at least 30d, as in 90d or 8760h", text)
	}
	*r = retention(keep)
	return nil
}

// retain keeps the months of the audit's events until ctx ends. receivers are those that they are
// forwarded to.
func retain(ctx context.Context, s *store.Store, keep retention, receivers []string, log *slog.Logger) error {
	for {
		if keep > 0 {
			dropped, err := s.Retain(ctx, time.Duration(keep), receivers...)
			if len(dropped) > 0 {
				log.Info("audit events removed for their age", "months", dropped)
			}
			if err != nil && ctx.Err() == nil {
				log.Error("old audit events not removed; tried again", "in", retainEvery, "error", err)
			}
		}
		for range retainEvery / monthsEvery {
			if err := s.KeepMonths(ctx); err != nil && ctx.Err() == nil {
				log.Error("audit's months not made; tried again", "in", monthsEvery, "error", err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(monthsEvery):
			}
		}
	}
}
