package control

import "time"

const (
	// rateLasts is how long what was allotted of a rate may be used. So there are
	// in any minute at most as many requests as are allotted in a minute and this.
	rateLasts = 5 * time.Second
	// share is the part of what is left that one sandbox gets at once: what it
	// takes along when it ends is at most that, and the last are given one by one.
	share = 16
)

// Usage is what was allotted of a credential's limits, to all sandboxes.
type Usage struct {
	Begin    time.Time // of the period that Spent was spent in
	Spent    int64
	Rate     Rate    // that Tokens are of
	Tokens   float64 // that are left of it, at FilledAt
	FilledAt time.Time
}

// Ask is how many requests a sandbox wants to be allotted.
type Ask struct{ Rate, Budget int64 }

// Allotment is a number of requests that may be sent.
type Allotment struct {
	Requests   int64
	Lasts      time.Duration // 0: until it is used
	RetryAfter time.Duration // if Requests is 0: 0 is not before the limits change
}

// Allot takes from the usage what the limits allow of ask at now. What is taken is
// spent, whether it is used or not: so never more is used, whatever ends early.
func (u *Usage) Allot(l Limits, ask Ask, now time.Time) (rate, budget Allotment) {
	if l.Rate > 0 && ask.Rate > 0 {
		if u.Rate != l.Rate { // a bucket of another size is as full; a new one is full
			u.Tokens = float64(l.Rate) * u.fill()
			u.Rate = l.Rate
		}
		rate = u.allotRate(float64(l.Rate), ask.Rate, now)
	}
	if l.Budget.Requests > 0 && ask.Budget > 0 {
		budget = u.allotBudget(l.Budget, ask.Budget, now)
	}
	return rate, budget
}

// fill is how full the bucket is.
func (u *Usage) fill() float64 {
	if u.Rate == 0 {
		return 1
	}
	return u.Tokens / float64(u.Rate)
}

// allotRate is a bucket that holds a minute's requests and fills in a minute.
func (u *Usage) allotRate(most float64, want int64, now time.Time) Allotment {
	if elapsed := now.Sub(u.FilledAt); elapsed > 0 { // a clock that was set back fills nothing
		u.Tokens += most * elapsed.Minutes()
		u.FilledAt = now
	}
	u.Tokens = min(u.Tokens, most)
	if u.Tokens < 1 {
		return Allotment{RetryAfter: time.Duration((1-u.Tokens)/most*float64(time.Minute)) + time.Millisecond}
	}
	n := min(want, max(1, int64(u.Tokens)/share))
	u.Tokens -= float64(n)
	return Allotment{Requests: n, Lasts: rateLasts}
}

func (u *Usage) allotBudget(b Budget, want int64, now time.Time) Allotment {
	if b.Period != PeriodTotal && now.Before(u.Begin) { // a clock that was set back into a period that is over
		return Allotment{RetryAfter: u.Begin.Sub(now)}
	}
	u.Spent = u.SpentAt(b, now)
	if begin := b.Period.Begin(now); begin.After(u.Begin) || b.Period == PeriodTotal {
		u.Begin = begin
	}
	lasts := time.Duration(0)
	if b.Period != PeriodTotal {
		lasts = b.Period.End(now).Sub(now)
	}
	left := b.Requests - u.Spent
	if left <= 0 {
		return Allotment{RetryAfter: lasts}
	}
	n := min(want, max(1, left/share))
	u.Spent += n
	return Allotment{Requests: n, Lasts: lasts}
}

// SpentAt is what was spent in the budget's period that now is in.
func (u *Usage) SpentAt(b Budget, now time.Time) int64 {
	if begin := b.Period.Begin(now); begin.After(u.Begin) || b.Period == PeriodTotal && !begin.Equal(u.Begin) {
		return 0
	}
	return u.Spent
}
