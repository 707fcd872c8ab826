package control

import (
	"fmt"
	"strings"
	"time"
)

// Days is a number of days. Its text form is Nd, "" for 0.
type Days int

const maxDays = 3650

// ParseDays reads days; "" is none.
func ParseDays(text string) (Days, error) {
	if text == "" {
		return 0, nil
	}
	number, found := strings.CutSuffix(text, "d")
	n, ok := parseCount(number, maxDays)
	if !found || !ok {
		return 0, Errorf(CodeInvalid, "%q is no number of days from 1d to %dd, as in 90d", text, maxDays)
	}
	return Days(n), nil
}

func (d Days) String() string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf("%dd", int(d))
}

func (d Days) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d *Days) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDays(string(text))
	return err
}

// Due is when what was rotated at a time is to be rotated again; nil: never.
func (d Days) Due(rotated time.Time) *time.Time {
	if d == 0 {
		return nil
	}
	due := rotated.AddDate(0, 0, int(d))
	return &due
}

// Overdue is how many of a team's credentials are due to be rotated.
type Overdue struct {
	Team  string // name
	Count int
}
