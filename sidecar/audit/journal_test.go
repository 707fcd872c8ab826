package audit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"sallyport/control/api"
)

const (
	bestEffort = api.AuditMode_AUDIT_MODE_BEST_EFFORT
	durable    = api.AuditMode_AUDIT_MODE_DURABLE
	strict     = api.AuditMode_AUDIT_MODE_STRICT
)

// realFile is a File as the worker has it; it counts its syncs.
type realFile struct {
	*os.File
	syncs atomic.Int64
}

func (f *realFile) Sync() error {
	f.syncs.Add(1)
	return unix.Fdatasync(int(f.Fd()))
}

func (f *realFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func openFile(t *testing.T, name string) *realFile {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &realFile{File: f}
}

func intend(t *testing.T, q *Queue, mode api.AuditMode, e *api.Event) (*Intent, error) {
	t.Helper()
	if !q.Reserve(t.Context()) {
		t.Fatal("there is no place")
	}
	return q.Intend(t.Context(), mode, e)
}

// run reports until the test ends or stop is called, which gives Run's error.
func run(t *testing.T, q *Queue) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = stop() })
	return stop
}

// What a worker that is killed had not brought to the control plane, the next does:
// with the numbers it was given, and what has no outcome as unknown. The next may be
// killed as well, and changes neither.
func TestNextWorkerReports(t *testing.T) {
	const capacity = 8
	journal := make([]byte, JournalSize(capacity))
	first := New(Config{Client: newFakeControl(), Capacity: capacity, Journal: journal, Log: quiet})
	done := busy()
	i, err := intend(t, first, bestEffort, done)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := intend(t, first, bestEffort, &api.Event{Time: done.Time, RequestId: "cut-down", Method: "POST", Host: "api.stripe.com", Path: "/v1/charges", Decision: "inject", CredentialId: "c", Version: 3, LeaseId: "l"}); err != nil {
		t.Fatal(err)
	}
	i.Event.Status, i.Event.Reason, i.Event.ResponseBytes = 502, "upstream_failed", 77
	first.Complete(i)
	if !first.Add(&api.Event{RequestId: "refused", Host: "x", Decision: "refuse", Reason: "policy_denied"}) {
		t.Fatal("it was not added")
	}

	var before []*api.Event
	for range 2 {
		f := newFakeControl()
		next := New(Config{Client: f, Capacity: capacity, Journal: bytes.Clone(journal), Log: quiet})
		if n := next.Stats().Queued; n != 3 {
			t.Fatalf("%d events were left", n)
		}
		var got []*api.Event
		for _, e := range next.events {
			got = append(got, e.event)
		}
		if !proto.Equal(got[0], i.Event) {
			t.Errorf("left    %v\nwritten %v", got[0], i.Event)
		}
		if got[1].RequestId != "refused" || got[1].Reason != "policy_denied" || got[1].Sequence != i.Event.Sequence+1 {
			t.Errorf("the refusal is %v", got[1])
		}
		if e := got[2]; e.RequestId != "cut-down" || e.Reason != Unknown || e.Decision != "inject" || e.Version != 3 || e.LeaseId != "l" || e.Path != "/v1/charges" || e.Sequence <= got[1].Sequence {
			t.Errorf("what was cut down is %v", e)
		}
		for i, e := range before {
			if !proto.Equal(e, got[i]) {
				t.Errorf("the worker after that reports %v\nthe one before %v", got[i], e)
			}
		}
		before = got
		journal = next.journal.mem // as that worker leaves it, killed at once
	}
	f := newFakeControl()
	last := New(Config{Client: f, Capacity: capacity, Journal: journal, Log: quiet})
	if err := run(t, last)(); err != nil {
		t.Fatal(err)
	}
	f.count(t, 3)
	if after := New(Config{Client: f, Capacity: capacity, Journal: journal, Log: quiet}); after.Stats().Queued != 0 {
		t.Errorf("%d events are left when all were reported", after.Stats().Queued)
	}
}

// A worker may be killed between any two bytes it writes: the next finds an intent
// that was whole, whatever else.
func TestKilledAnywhere(t *testing.T) {
	mem := make([]byte, JournalSize(1))
	j, _ := openJournal(mem, 1)
	slot := j.take()
	e := busy()
	e.Sequence = 0
	j.begin(slot, e)
	begun := bytes.Clone(mem)
	e.Sequence = 7
	j.complete(slot, e)
	for cut := range slotSize { // the outcome, written up to here
		partly := bytes.Clone(begun)
		copy(partly[journalHeader:journalHeader+cut], mem[journalHeader:])
		_, found := openJournal(partly, 1)
		if len(found) != 1 || found[0].event.RequestId != e.RequestId {
			t.Fatalf("after %d bytes there is %v", cut, found)
		}
		if s := found[0].event.Sequence; s != 0 && s != 7 {
			t.Fatalf("after %d bytes its number is %d", cut, s)
		}
	}
	j.give(slot)
	j.take()
	longer := busy()
	longer.Path = strings.Repeat("/long", 150)
	j.begin(slot, longer) // over the old one, whose outcome is not its own
	if _, found := openJournal(bytes.Clone(mem), 1); len(found) != 1 || found[0].event.Sequence != 0 || found[0].event.Path != longer.Path {
		t.Errorf("a slot that was used again has %v", found)
	}
}

// The longest event there can be loses some of its path and nothing else.
func TestLongestEvent(t *testing.T) {
	mem := make([]byte, JournalSize(1))
	j, _ := openJournal(mem, 1)
	long := strings.Repeat("é", maxField)
	e := &api.Event{Time: busy().Time, RequestId: "r", Host: long, Method: long, Path: strings.Repeat("/é", maxPath), Decision: "inject", CredentialId: "c", LeaseId: "l", Reason: long}
	clean(e)
	slot := j.take()
	j.begin(slot, e)
	e.Sequence = 1
	j.complete(slot, e)
	_, found := openJournal(mem, 1)
	if len(found) != 1 || found[0].event.RequestId != "r" || found[0].event.Host != e.Host || found[0].event.Reason != e.Reason || len(found[0].event.Path) < 200 {
		t.Errorf("there is %v", found)
	}
}

// FuzzJournal reads what a worker that was taken over may leave.
func FuzzJournal(f *testing.F) {
	mem := make([]byte, JournalSize(4))
	j, _ := openJournal(mem, 4)
	for range 3 {
		slot := j.take()
		j.begin(slot, busy())
		j.complete(slot, busy())
	}
	f.Add(mem)
	f.Add(mem[:journalHeader+100])
	f.Fuzz(func(t *testing.T, left []byte) {
		mem := make([]byte, JournalSize(4))
		copy(mem, left)
		q := New(Config{Client: newFakeControl(), Capacity: 4, Journal: mem, Log: quiet})
		var last uint64
		for _, e := range q.events {
			if e.event.Sequence <= last {
				t.Fatalf("number %d after %d", e.event.Sequence, last)
			}
			last = e.event.Sequence
			if _, err := proto.Marshal(e.event); err != nil {
				t.Fatal(err)
			}
		}
		if free := len(q.journal.free); free+len(q.events) != 4 {
			t.Fatalf("%d slots are free beside %d events", free, len(q.events))
		}
		_, _, _ = ReadLog(bytes.NewReader(left))
	})
}

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

// A strict intent is with the control plane when Intend returns; those that come
// together share a report; without the control plane nothing may be sent.
func TestStrict(t *testing.T) {
	f := newFakeControl()
	q := newQueue(f, 1000, quiet)
	f.before = func([]*api.Event) error { // long enough for others to come meanwhile
		time.Sleep(2 * time.Millisecond)
		return nil
	}
	stop := run(t, q)
	const many = 100
	var wg sync.WaitGroup
	for range many {
		wg.Go(func() {
			e := busy()
			e.RequestId = "strict"
			i, err := intend(t, q, strict, e)
			if err != nil {
				t.Error(err)
				return
			}
			f.mu.Lock()
			stored := len(f.stored)
			f.mu.Unlock()
			if stored == 0 {
				t.Error("nothing is stored")
			}
			q.Complete(i)
		})
	}
	wg.Wait()
	f.mu.Lock()
	if len(f.stored) < many || f.calls >= many {
		t.Errorf("%d events are stored, by %d calls", len(f.stored), f.calls)
	}
	f.before = func([]*api.Event) error { return away }
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	q.Reserve(ctx)
	i, err := q.Intend(ctx, strict, busy())
	if !errors.Is(err, ErrUnacknowledged) {
		t.Errorf("while the control plane is away: %v", err)
	}
	q.Complete(i)
	f.mu.Lock()
	f.before = nil
	f.mu.Unlock()
	if err := stop(); err != nil {
		t.Error(err)
	}
	f.count(t, 2*many+2)
}

// count checks how many events are stored.
func (f *fakeControl) count(t *testing.T, want int) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.stored) != want {
		t.Errorf("%d events are stored, want %d", len(f.stored), want)
	}
}

// BenchmarkDurable is what intents on a disk cost, alone and 64 at once.
func BenchmarkDurable(b *testing.B) {
	for _, at := range []int{1, 64} {
		b.Run(strconv.Itoa(at), func(b *testing.B) {
			file, err := os.OpenFile(filepath.Join(b.TempDir(), "log"), os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				b.Fatal(err)
			}
			defer file.Close()
			f := &realFile{File: file}
			q := New(Config{Client: newFakeControl(), Capacity: 10_000, Journal: make([]byte, JournalSize(10_000)), Disk: f, Owner: "x\n", Log: quiet})
			ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
			ended := make(chan error, 1)
			go func() { ended <- q.Run(ctx) }()
			b.SetParallelism(max(1, at/runtime.GOMAXPROCS(0)))
			if at == 1 {
				b.SetParallelism(1)
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			}
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					q.Reserve(ctx)
					i, err := q.Intend(ctx, durable, busy())
					if err != nil {
						b.Error(err)
					}
					q.Complete(i)
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/float64(f.syncs.Load()), "intents/sync")
			b.ReportMetric(float64(f.syncs.Load())/b.Elapsed().Seconds(), "syncs/s")
			cancel()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
}
