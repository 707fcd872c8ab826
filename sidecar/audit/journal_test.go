package audit

import (
	"bytes"
	"context"
	"errors"
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
