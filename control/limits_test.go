package control

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseLimits(t *testing.T) {
	for _, text := range []string{"1/min", "60/min", "1000000/min", ""} {
		if r, err := ParseRate(text); err != nil || r.String() != text {
			t.Errorf("%q is read as %v, %v", text, r, err)
		}
	}
	for _, text := range []string{"0/min", "60", "60/h", "-1/min", "+1/min", "01/min", " 1/min", "1000001/min", "1.5/min", "60/min/min", "min"} {
		if r, err := ParseRate(text); err == nil {
			t.Errorf("%q is the rate %v", text, r)
		}
	}
	for _, text := range []string{"1", "1000/day", "1000000000000/month", ""} {
		if b, err := ParseBudget(text); err != nil || b.String() != text {
			t.Errorf("%q is read as %v, %v", text, b, err)
		}
	}
	for _, text := range []string{"0", "1/", "1/week", "1/Day", "1/total", "-5/day", "1000000000001", "/day", "1 /day"} {
		if b, err := ParseBudget(text); err == nil {
			t.Errorf("%q is the budget %v", text, b)
		}
	}
}

func TestLimitsAreThemselvesInJSON(t *testing.T) {
	end := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, l := range []Limits{{}, {
		Methods: []string{"GET"}, Paths: []string{"/v1"}, ExpiresAt: &end, Rate: 60, Budget: Budget{1000, PeriodDay},
		Approve: ApproveEach, ApproveTimeout: Seconds(90 * time.Second),
	}} {
		text, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		var read Limits
		if err := json.Unmarshal(text, &read); err != nil || read.String() != l.String() || read.None() != l.None() {
			t.Errorf("%s is read as %v, %v", text, read, err)
		}
		if l.None() && string(text) != "{}" {
			t.Errorf("none are %s", text)
		}
	}
}

// TestAllotments asks at any times, by a clock that is also set back. In no period is
// more than the budget allotted, and in no time more than the rate's bucket held and
// what flowed into it.
func TestAllotments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Limits{
			Rate:   Rate(rapid.Int64Range(1, 1000).Draw(t, "rate")),
			Budget: Budget{rapid.Int64Range(1, 500).Draw(t, "budget"), rapid.SampledFrom([]Period{PeriodTotal, PeriodDay, PeriodMonth}).Draw(t, "period")},
		}
		now := time.Date(2026, 2, 27, 23, 0, 0, 0, time.UTC)
		latest := now
		u := Usage{Begin: l.Budget.Period.Begin(time.Time{}), FilledAt: now}
		spent := make(map[time.Time]int64)
		flowed, rated := float64(l.Rate), int64(0)
		for range rapid.IntRange(1, 60).Draw(t, "calls") {
			now = now.Add(time.Duration(rapid.Int64Range(-3600, 86400).Draw(t, "seconds")) * time.Second)
			if now.After(latest) {
				flowed, latest = flowed+float64(l.Rate)*now.Sub(latest).Minutes(), now
			}
			want := Ask{rapid.Int64Range(0, 64).Draw(t, "rate wanted"), rapid.Int64Range(0, 64).Draw(t, "budget wanted")}
			rate, budget := u.Allot(l, want, now)
			if rate.Requests > want.Rate || budget.Requests > want.Budget {
				t.Fatalf("%+v and %+v for %+v", rate, budget, want)
			}
			if want.Rate > 0 && rate.Requests == 0 && rate.RetryAfter <= 0 {
				t.Fatalf("nobody is told when there is more of the rate: %+v", rate)
			}
			if budget.Lasts > 0 && l.Budget.Period.Begin(now.Add(budget.Lasts-1)) != l.Budget.Period.Begin(now) {
				t.Fatalf("%+v outlasts the period of %v", budget, now)
			}
			rated += rate.Requests
			spent[l.Budget.Period.Begin(now)] += budget.Requests
			if sum := spent[l.Budget.Period.Begin(now)]; sum > l.Budget.Requests {
				t.Fatalf("%d of %v are allotted at %v", sum, l.Budget, now)
			}
			if float64(rated) > flowed+1e-6 {
				t.Fatalf("%d requests of a rate that had room for %v", rated, flowed)
			}
		}
	})
}

// The bucket empties, says when there is one more, and has it then.
func TestRate(t *testing.T) {
	l, now := Limits{Rate: 60}, time.Now()
	u := Usage{FilledAt: now}
	sum := int64(0)
	for {
		rate, _ := u.Allot(l, Ask{Rate: 64}, now)
		if rate.Requests == 0 {
			if rate, _ = u.Allot(l, Ask{Rate: 64}, now.Add(rate.RetryAfter)); rate.Requests != 1 {
				t.Errorf("after the time that was said: %+v", rate)
			}
			break
		}
		sum += rate.Requests
	}
	if sum != 60 {
		t.Errorf("%d at once", sum)
	}
	// Another rate makes no new requests of those that were used.
	l.Rate = 6000
	if rate, _ := u.Allot(l, Ask{Rate: 64}, u.FilledAt); rate.Requests != 0 {
		t.Errorf("after the rate was raised: %+v", rate)
	}
}
