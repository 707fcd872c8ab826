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
		var before time.Time // nothing is older
		if keep > 0 {
			before = time.Now().Add(-time.Duration(keep))
		}
		dropped, err := s.Retain(ctx, before, receivers...)
		if len(dropped) > 0 {
			log.Info("audit events removed for their age", "months", dropped)
		}
		if err != nil && ctx.Err() == nil {
			log.Error("audit's months not kept; tried again", "in", retainEvery, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retainEvery):
		}
	}
}
