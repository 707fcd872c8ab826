package vectors_test

import (
	"slices"
	"testing"

	"sallyport/e2e/smuggle/vectors"
)

// The figures of THREATS are about at least a thousand different ones, and a
// failure that can't be repeated helps nobody.
func TestManyAndTheSameEveryTime(t *testing.T) {
	all := vectors.All()
	if !slices.Equal(all, vectors.All()) {
		t.Error("two runs differ")
	}
	seen, groups := map[string]bool{}, map[string]int{}
	for i, v := range all {
		if v.Number != i {
			t.Errorf("vector %d says it is %d", i, v.Number)
		}
		if v.Want == vectors.Accept && v.Requests == 0 {
			t.Errorf("%s is accepted as nothing", v)
		}
		seen[v.Text] = true
		groups[v.Group]++
	}
	if len(seen) < 1000 {
		t.Errorf("%d different vectors", len(seen))
	}
	t.Logf("%d vectors, %v", len(all), groups)
}
