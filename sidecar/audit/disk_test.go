package audit

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/control/api"
)

// A durable intent is in the file before Intend returns; many share a sync; what was
// reported is no longer there.
func TestDurable(t *testing.T) {
	f := openFile(t, filepath.Join(t.TempDir(), "log"))
	control := newFakeControl()
	const owner = "sallyport audit log v1: team t, agent a, sandbox s\n"
	q := New(Config{Client: control, Capacity: 1000, Journal: make([]byte, JournalSize(1000)), Disk: f, Owner: owner, Log: quiet})
	stop := run(t, q)
	read := func() map[string]string {
		t.Helper()
		at, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		_, events, err := ReadLog(bytes.NewReader(at))
		if err != nil {
			t.Fatal(err)
		}
		reasons := map[string]string{}
		for _, e := range events {
			reasons[e.RequestId] = e.Reason
		}
		return reasons
	}
	const many = 200
	var wg sync.WaitGroup
	for n := range many {
		wg.Go(func() {
			e := busy()
			e.RequestId = string(rune('a'+n%26)) + string(rune('a'+n/26))
			i, err := intend(t, q, durable, e)
			if err != nil {
				t.Error(err)
				return
			}
			if reason, there := read()[e.RequestId]; !there || reason != Unknown {
				t.Errorf("the intent of %s is not in the file, or with the outcome %q", e.RequestId, reason)
			}
			q.Complete(i)
		})
	}
	wg.Wait()
	if n := f.syncs.Load(); n >= many {
		t.Errorf("%d syncs for %d intents", n, many)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	control.count(t, many)
	if size, err := f.Size(); size != 0 || err != nil {
		t.Errorf("when all was reported the file has %d bytes, %v", size, err)
	}
}

// What the file can't take is refused, and there is room again when there is; what
// can't be reported stays in it.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	f := openFile(t, filepath.Join(dir, "log"))
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 48<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	control := newFakeControl()
	control.before = func([]*api.Event) error { return away }
	q := New(Config{Client: control, Capacity: 100, Journal: make([]byte, JournalSize(100)), Disk: f, Owner: "sallyport audit log v1: x\n", Log: quiet})
	stop := run(t, q)
	taken := 0
	for {
		i, err := intend(t, q, durable, busy())
		q.Complete(i)
		if err == nil {
			taken++
			continue
		}
		if !errors.Is(err, ErrDisk) || !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("after %d intents: %v", taken, err)
		}
		break
	}
	if taken == 0 || taken > 10 || !q.Stats().Degraded {
		t.Errorf("%d intents were taken, and it is %+v", taken, q.Stats())
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if i, err := intend(t, q, durable, busy()); err != nil {
		t.Errorf("with room again: %v", err)
	} else {
		q.Complete(i)
	}
	if q.Stats().Degraded {
		t.Error("with room again it is degraded")
	}
	if err := stop(); err == nil {
		t.Error("nothing was reported, and it does not say so")
	}
	left, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer left.Close()
	if _, events, err := ReadLog(left); err != nil || len(events) < taken {
		t.Errorf("%d events are left, %v", len(events), err)
	}
}

// A sync that fails refuses: /dev/null takes writes and can't be synced.
func TestFailingSync(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	q := New(Config{Client: newFakeControl(), Capacity: 10, Journal: make([]byte, JournalSize(10)), Disk: &realFile{File: null}, Owner: "x", Log: quiet})
	stop := run(t, q)
	i, err := intend(t, q, durable, busy())
	if !errors.Is(err, ErrDisk) || !errors.Is(err, unix.EINVAL) {
		t.Errorf("it is %v", err)
	}
	q.Complete(i)
	_ = stop() // cutting the file fails too
}

// A disk that takes nothing and says nothing does not hold requests: each waits a
// bounded time, and those that come later less. A pipe nobody reads hangs as such a disk.
func TestHangingDisk(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	q := New(Config{Client: newFakeControl(), Capacity: 10, Journal: make([]byte, JournalSize(10)), Disk: pipeFile{w}, Owner: strings.Repeat("x", 1<<20), Log: quiet})
	stop := run(t, q)
	for range 2 {
		i, err := intend(t, q, durable, busy())
		if !errors.Is(err, ErrDisk) {
			t.Errorf("it is %v", err)
		}
		q.Complete(i)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }() // it goes on
	_ = stop()
	w.Close()
}

type pipeFile struct{ *os.File }

func (f pipeFile) WriteAt(b []byte, _ int64) (int, error) { return f.Write(b) }
func (f pipeFile) Size() (int64, error)                   { return 0, nil }

func TestNoDisk(t *testing.T) {
	q := newQueue(newFakeControl(), 10, quiet)
	i, err := intend(t, q, durable, busy())
	if !errors.Is(err, ErrNoDisk) {
		t.Errorf("it is %v", err)
	}
	q.Complete(i)
}
