package supervise

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func newState(t testing.TB) (*os.File, *State) {
	t.Helper()
	f, err := newStateFile()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, mapState(t, f)
}

func mapState(t testing.TB, f *os.File) *State {
	t.Helper()
	s, err := openState(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(s.mem) })
	return s
}

func load(t rapid.TB, s *State) []byte {
	t.Helper()
	b, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStateSurvivesItsWorker(t *testing.T) {
	f, s := newState(t)
	if b := load(t, s); b != nil {
		t.Errorf("new state holds %q", b)
	}
	for _, text := range []string{"one", "two", "three"} {
		if err := s.Save([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if b := load(t, mapState(t, f)); string(b) != text {
			t.Errorf("another worker loads %q, want %q", b, text)
		}
	}
}

// A worker killed within Save leaves what was there before it, whatever part
// of the write was done.
func TestStateIsWrittenWhole(t *testing.T) {
	_, s := newState(t)
	rapid.Check(t, func(r *rapid.T) {
		before := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(r, "before")
		after := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(r, "after")
		if err := s.Save(before); err != nil {
			r.Fatal(err)
		}
		old := bytes.Clone(s.mem)
		if err := s.Save(after); err != nil {
			r.Fatal(err)
		}
		written := bytes.Clone(s.mem)
		copy(s.mem, old)
		for i := range written { // each byte is written or not
			if rapid.Bool().Draw(r, "written") {
				s.mem[i] = written[i]
			}
			if i > 1000 {
				break
			}
		}
		if got := load(r, s); !bytes.Equal(got, before) && !bytes.Equal(got, after) {
			r.Errorf("loaded %q, want %q or %q", got, before, after)
		}
		copy(s.mem, written)
	})
}

func TestStateTooLarge(t *testing.T) {
	_, s := newState(t)
	if err := s.Save([]byte("kept")); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(make([]byte, slotSize)); err == nil {
		t.Error("too much was saved")
	}
	if b := load(t, s); string(b) != "kept" {
		t.Errorf("loaded %q", b)
	}
	if err := s.Save(make([]byte, slotSize-slotHeader)); err != nil {
		t.Errorf("the most that fits: %v", err)
	}
}

// Where memory can't be locked, a sealed memfd takes its place.
func TestStateWithoutSecretMemory(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit)
	f, s := newState(t)
	if err := s.Save([]byte("kept")); err != nil {
		t.Fatal(err)
	}
	if b := load(t, mapState(t, f)); string(b) != "kept" {
		t.Errorf("loaded %q", b)
	}
	if err := f.Truncate(0); err == nil {
		t.Error("a worker could cut its state short under init")
	}
}
