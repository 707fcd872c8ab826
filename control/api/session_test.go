package api

import "testing"

func TestOpening(t *testing.T) {
	want := Opening{Worker: 3, Stream: 41}
	if got, err := ParseOpening(want.String()); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	for _, text := range []string{"", "1", "1.", ".1", "0.1", "1.0", "01.1", "+1.1", "1.1.1", "1.-1", " 1.1", "1.9223372036854775808"} {
		if o, err := ParseOpening(text); err == nil {
			t.Errorf("%q was read as %v", text, o)
		}
	}
}
