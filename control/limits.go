package control

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limits bound what a credential is used for. They hold for all sandboxes
// together, and for what was captured with the credential. The zero Limits are none.
type Limits struct {
	Methods        []string   `json:"methods,omitempty"`
	Paths          []string   `json:"paths,omitempty"`      // prefixes that end at a segment
	ExpiresAt      *time.Time `json:"expires_at,omitempty"` // nil: never
	Rate           Rate       `json:"rate,omitzero"`
	Budget         Budget     `json:"budget,omitzero"`
	Approve        Approve    `json:"approve,omitempty"`
	ApproveTimeout Seconds    `json:"approve_timeout,omitzero"` // DefaultApproveTimeout if 0
}

// Approve says which requests wait for a person.
type Approve string

const (
	ApproveNone  Approve = ""
	ApproveFirst Approve = "first" // the first of a sandbox with a version of the credential
	ApproveEach  Approve = "each"
)

// DefaultApproveTimeout is how long a request waits for a person.
const DefaultApproveTimeout = Seconds(5 * time.Minute)

// None reports whether nothing is limited.
func (l Limits) None() bool {
	return len(l.Methods) == 0 && len(l.Paths) == 0 && l.ExpiresAt == nil && l.Rate == 0 && l.Budget == Budget{} && l.Approve == ApproveNone
}

// Terms names the rate and the budget.
func (l Limits) Terms() string { return l.Rate.String() + " " + l.Budget.String() }

// String is for the audit log.
func (l Limits) String() string {
	var parts []string
	say := func(name, text string) {
		if text != "" {
			parts = append(parts, name+" "+text)
		}
	}
	say("methods", strings.Join(l.Methods, ","))
	say("paths", strings.Join(l.Paths, ","))
	if l.ExpiresAt != nil {
		say("expires", l.ExpiresAt.UTC().Format(time.RFC3339))
	}
	say("rate", l.Rate.String())
	say("budget", l.Budget.String())
	if l.Approve != ApproveNone {
		say("approve", fmt.Sprintf("%s within %s", l.Approve, l.ApproveTimeout))
	}
	if len(parts) == 0 {
		return "no limits"
	}
	return strings.Join(parts, "; ")
}

// Rate is how many requests there may be in a minute, and at once; 0 is any
// number. Its text form is N/min.
type Rate int64

// Budget is how many requests there may be in a period. Its text form is N,
// N/day or N/month.
type Budget struct {
	Requests int64 // 0: any number
	Period   Period
}

// Period is what a budget is for.
type Period string

const (
	PeriodTotal Period = "" // for good
	PeriodDay   Period = "day"
	PeriodMonth Period = "month"
)

// Begin is when the period that t is in began; the zero time for good. Days and
// months are those of UTC.
func (p Period) Begin(t time.Time) time.Time {
	year, month, day := t.UTC().Date()
	switch p {
	case PeriodDay:
		return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	case PeriodMonth:
		return time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
	}
	return time.Time{}
}

// End is when the period that t is in ends; the zero time if it doesn't.
func (p Period) End(t time.Time) time.Time {
	switch begin := p.Begin(t); p {
	case PeriodDay:
		return begin.AddDate(0, 0, 1)
	case PeriodMonth:
		return begin.AddDate(0, 1, 0)
	}
	return time.Time{}
}

// The most that can be counted.
const (
	maxRate   = 1_000_000
	maxBudget = 1_000_000_000_000
)

// ParseRate reads a rate; "" is none.
func ParseRate(text string) (Rate, error) {
	if text == "" {
		return 0, nil
	}
	number, found := strings.CutSuffix(text, "/min")
	n, ok := parseCount(number, maxRate)
	if !found || !ok {
		return 0, Errorf(CodeInvalid, "the rate %q: want N/min with N from 1 to %d, as in 60/min", text, maxRate)
	}
	return Rate(n), nil
}

// ParseBudget reads a budget; "" is none.
func ParseBudget(text string) (Budget, error) {
	if text == "" {
		return Budget{}, nil
	}
	number, period, found := strings.Cut(text, "/")
	n, ok := parseCount(number, maxBudget)
	b := Budget{n, Period(period)}
	if !ok || found && b.Period != PeriodDay && b.Period != PeriodMonth {
		return Budget{}, Errorf(CodeInvalid, "the budget %q: want N, N/day or N/month with N from 1 to %d requests, as in 1000/day", text, maxBudget)
	}
	return b, nil
}

// parseCount reads a number as it is printed: digits alone, no leading zero.
func parseCount(text string, most int64) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 1 && n <= most && strconv.FormatInt(n, 10) == text
}

func (r Rate) String() string {
	if r == 0 {
		return ""
	}
	return fmt.Sprintf("%d/min", int64(r))
}

func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r *Rate) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRate(string(text))
	return err
}

func (b Budget) String() string {
	switch {
	case b.Requests == 0:
		return ""
	case b.Period == PeriodTotal:
		return strconv.FormatInt(b.Requests, 10)
	}
	return fmt.Sprintf("%d/%s", b.Requests, b.Period)
}

func (b Budget) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

func (b *Budget) UnmarshalText(text []byte) (err error) {
	*b, err = ParseBudget(string(text))
	return err
}

// Seconds is a duration of whole seconds whose text form is as 5m0s.
type Seconds time.Duration

func (s Seconds) String() string { return time.Duration(s).String() }

func (s Seconds) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s *Seconds) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*s = 0
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil || d < 0 || d%time.Second != 0 {
		return Errorf(CodeInvalid, "%q is no time in whole seconds, as in 5m or 90s", text)
	}
	*s = Seconds(d)
	return nil
}
