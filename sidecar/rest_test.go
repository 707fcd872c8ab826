package sidecar

import "testing"

func TestPauseBeginsOnceAfterWork(t *testing.T) {
	const mebibyte = 1 << 20
	var p pause
	for i, step := range []struct {
		allocated uint64
		want      bool
	}{
		{3 * mebibyte, false}, // work
		{3 * mebibyte, false}, // little of it
		{9 * mebibyte, false},
		{9*mebibyte + restQuiet, true},
		{9*mebibyte + 2*restQuiet, false},
		{20 * mebibyte, false},
		{40 * mebibyte, false},
		{40 * mebibyte, true},
		{41 * mebibyte, false},
		{41 * mebibyte, false},
	} {
		if got := p.begins(step.allocated); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}
