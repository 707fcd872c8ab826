package control_test

import (
	"testing"
	"time"

	"sallyport/control"
)

func TestDays(t *testing.T) {
	for text, want := range map[string]control.Days{"": 0, "1d": 1, "90d": 90, "3650d": 3650} {
		if got, err := control.ParseDays(text); err != nil || got != want || got.String() != text {
			t.Errorf("%q is %d (%s), %v", text, got, got, err)
		}
	}
	for _, text := range []string{"90", "d", "0d", "-1d", "+1d", "01d", "1.5d", "3651d", "90 d", "90h", "never"} {
		if got, err := control.ParseDays(text); control.CodeOf(err) != control.CodeInvalid {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
	rotated := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	if due := control.Days(0).Due(rotated); due != nil {
		t.Errorf("never is %v", due)
	}
	if due := control.Days(90).Due(rotated); !due.Equal(time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("90 days later is %v", due)
	}
}
