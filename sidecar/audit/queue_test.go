package audit

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"sallyport/control/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBatches(t *testing.T) {
	inBubble(t, 10_000, func(t *testing.T, f *fakeControl, q *Queue, end func() error) {
		fill(t, q, 0, 3)
		time.Sleep(batchDelay)
		synctest.Wait()
		f.has(t, 3)
		if f.calls != 1 {
			t.Errorf("3 events in %d batches", f.calls)
		}
		fill(t, q, 3, 3+2*batchSize)
		synctest.Wait() // full batches don't wait
		if f.calls < 2 || f.largest < batchSize {
			t.Errorf("%d batches, the largest of %d", f.calls, f.largest)
		}
		fill(t, q, 3+2*batchSize, 4+2*batchSize)
		if err := end(); err != nil {
			t.Error(err)
		}
		f.has(t, 4+2*batchSize)
		if s := q.Stats(); s != (Stats{Reported: 4 + 2*batchSize}) {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestSequenceHasNoGaps(t *testing.T) {
	inBubble(t, 10_000, func(t *testing.T, f *fakeControl, q *Queue, end func() error) {
		fill(t, q, 0, 1000)
		if err := end(); err != nil {
			t.Error(err)
		}
		var least, most uint64
		for s := range f.stored {
			if least == 0 || s < least {
				least = s
			}
			most = max(most, s)
		}
		if most-least != 999 {
			t.Errorf("1000 events have the numbers %d to %d", least, most)
		}
	})
}

// A restarted worker must not use a number again: its event would be taken for
// a repetition and lost.
func TestSequenceGoesOnAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeControl()
		for worker := range 5 {
			q := newQueue(f, 100, quiet)
			fill(t, q, worker*100, worker*100+100)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := q.Run(ctx); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Microsecond)
		}
		f.has(t, 500)
	})
}

// Numbers of a worker before this one, from a clock that was ahead, must not
// count as an acknowledgement of what has not been sent.
func TestOnlyWhatWasSentIsAcknowledged(t *testing.T) {
	inBubble(t, 10_000, func(t *testing.T, f *fakeControl, q *Queue, end func() error) {
		f.after = func(uint64) (uint64, error) { return 1 << 62, nil }
		f.before = func([]*api.Event) error {
			if f.calls == 1 {
				fill(t, q, batchSize, batchSize+10) // while the first batch is under way
			}
			return nil
		}
		fill(t, q, 0, batchSize)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		f.has(t, batchSize+10)
	})
}

func TestResentUntilAcknowledged(t *testing.T) {
	inBubble(t, 10_000, func(t *testing.T, f *fakeControl, q *Queue, end func() error) {
		f.before = func([]*api.Event) error {
			switch f.calls % 6 {
			case 1:
				return away // nothing was stored
			case 4:
				return connect.NewError(connect.CodeResourceExhausted, errors.New("later"))
			}
			return nil
		}
		f.after = func(ack uint64) (uint64, error) {
			switch f.calls % 3 {
			case 2:
				return 0, away // stored, but the answer was lost
			}
			return ack - min(ack, uint64(f.times%7)), nil // a part is acknowledged
		}
		fill(t, q, 0, 2000)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		f.has(t, 2000)
		if s := q.Stats(); s.Queued != 0 || s.Reported != 2000 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestFullQueueRefuses(t *testing.T) {
	inBubble(t, 10, func(t *testing.T, f *fakeControl, q *Queue, end func() error) {
		f.before = func([]*api.Event) error { return away }
		fill(t, q, 0, 9)
		if !q.Reserve(t.Context()) {
			t.Fatal("no place for the tenth")
		}
		begin := time.Now()
		if q.Add(event(99)) || time.Since(begin) > 0 {
			t.Errorf("more places than the capacity, or Add waited %v", time.Since(begin))
		}
		if q.Reserve(t.Context()) || time.Since(begin) != reserveTimeout {
			t.Errorf("more places than the capacity, or Reserve waited %v", time.Since(begin))
		}
		q.Cancel()
		if !q.Reserve(t.Context()) {
			t.Error("the place that was given up is not free")
		}
		q.Record(event(9)) // the place was kept
		if s := q.Stats(); s.Queued != 10 || s.Refused != 1 || s.Dropped != 1 {
			t.Errorf("stats %+v", s)
		}
		time.Sleep(time.Hour)
		f.mu.Lock()
		if f.calls > 3600 {
			t.Errorf("%d attempts in an outage of an hour", f.calls)
		}
		f.before = nil
		f.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		f.has(t, 10)
		fill(t, q, 10, 20)
		if err := end(); err != nil {
			t.Error(err)
		}
		f.has(t, 20)
	})
}

// Requests wait for a full queue that is being emptied, in the order they came.
// TestFloodLeavesHalf: events that nobody reserved a place for take half of the
// places at most. What is dropped is counted and told of, now and then.
func TestFloodLeavesHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		q := newQueue(newFakeControl(), 10, slog.New(slog.NewTextHandler(&out, nil)))
		for range 1000 {
			q.Add(event(0))
		}
		if s := q.Stats(); s.Queued != 5 || s.Dropped != 995 {
			t.Errorf("stats %+v", s)
		}
		if n := strings.Count(out.String(), "dropped"); n != 2 { // the message and its key
			t.Errorf("told of it so:\n%s", out.String())
		}
		fill(t, q, 0, 5)
		time.Sleep(warnEvery)
		q.Add(event(0))
		if !strings.Contains(out.String(), "dropped=996") {
			t.Errorf("not told of it again:\n%s", out.String())
		}
	})
}

func TestReserveWaitsInTurn(t *testing.T) {
	inBubble(t, 10, func(t *testing.T, f *fakeControl, q *Queue, end func() error) {
		f.before = func([]*api.Event) error {
			if len(f.stored) == 0 {
				return away
			}
			return nil
		}
		fill(t, q, 0, 10)
		var group sync.WaitGroup
		order := make(chan int, 30)
		for i := range 30 {
			group.Go(func() {
				if !q.Reserve(t.Context()) {
					t.Errorf("request %d found no place", i)
					return
				}
				order <- i
				q.Record(event(10 + i))
			})
			synctest.Wait()
		}
		gone, leave := context.WithCancel(t.Context())
		group.Go(func() {
			if q.Reserve(gone) {
				t.Error("a place for one that has gone")
			}
		})
		synctest.Wait()
		leave()
		f.mu.Lock()
		f.before = nil
		f.mu.Unlock()
		group.Wait()
		close(order)
		turn := 0
		for i := range order {
			if i/10 != turn/10 { // those who get their places at once may overtake each other
				t.Errorf("request %d was number %d", i, turn)
			}
			turn++
		}
		if err := end(); err != nil {
			t.Error(err)
		}
		f.has(t, 40)
		if s := q.Stats(); s != (Stats{Reported: 40, Refused: 1, Degraded: true}) {
			t.Errorf("stats %+v", s)
		}
	})
}

// While the control plane is slow, what waits is reported in larger batches.
func TestBacklogMakesLargerBatches(t *testing.T) {
	inBubble(t, 10_000, func(t *testing.T, f *fakeControl, q *Queue, end func() error) {
		f.before = func([]*api.Event) error { return away }
		fill(t, q, 0, 3000)
		time.Sleep(time.Second)
		f.mu.Lock()
		f.before, f.calls = nil, 0
		f.mu.Unlock()
		if err := end(); err != nil {
			t.Error(err)
		}
		f.has(t, 3000)
		if f.largest != mostEvents || f.calls > 4 {
			t.Errorf("%d batches, the largest of %d", f.calls, f.largest)
		}
	})
}

func TestEndSaysWhatWasLost(t *testing.T) {
	inBubble(t, 100, func(t *testing.T, f *fakeControl, q *Queue, end func() error) {
		f.before = func([]*api.Event) error { return away }
		fill(t, q, 0, 7)
		begin := time.Now()
		err := end()
		if err == nil || !strings.Contains(err.Error(), "7 audit events were not reported") {
			t.Errorf("error %v", err)
		}
		if time.Since(begin) > flushTimeout {
			t.Errorf("the end took %v", time.Since(begin))
		}
	})
}

// An event that the control plane can't store must not hold up the others.
func TestPoisonedEvent(t *testing.T) {
	inBubble(t, 10_000, func(t *testing.T, f *fakeControl, q *Queue, end func() error) {
		f.before = func(batch []*api.Event) error {
			for _, e := range batch {
				if e.RequestId == "poison" {
					return connect.NewError(connect.CodeInvalidArgument, errors.New("no such decision"))
				}
			}
			return nil
		}
		fill(t, q, 0, 300)
		q.Add(&api.Event{RequestId: "poison"})
		fill(t, q, 300, 900)
		q.Add(&api.Event{RequestId: "poison"})
		if err := end(); err != nil {
			t.Error(err)
		}
		f.has(t, 900)
		if s := q.Stats(); s.Rejected != 2 || s.Reported != 900 {
			t.Errorf("stats %+v", s)
		}
	})
}

// What an agent writes into its requests must neither stop the queue nor forge
// lines of the log.
func TestHostileTextIsStorable(t *testing.T) {
	inBubble(t, 100, func(t *testing.T, f *fakeControl, q *Queue, end func() error) {
		for _, text := range []string{
			"/\xff\xfe", "/a\x00b", "/a\nlevel=ERROR msg=forged", "/\x1b[2J", "/\u202egnp.exe", "/" + strings.Repeat("é", 5000),
			"/" + strings.Repeat("\xff", 5000), "/plain path?", "",
		} {
			e := &api.Event{Path: text, Host: text, Method: text, Protocol: text, Reason: text, RequestId: text}
			if !q.Add(e) {
				t.Fatal("no place")
			}
			for _, got := range []string{e.Path, e.Host, e.Method} {
				if !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\n\x1b\u202e") || len(got) > maxPath {
					t.Errorf("%.20q became %.20q of %d bytes", text, got, len(got))
				}
			}
			if text == "/plain path?" && e.Path != text {
				t.Errorf("%q was changed to %q", text, e.Path)
			}
		}
		if err := end(); err != nil {
			t.Error(err)
		}
		if len(f.stored) != 9 {
			t.Errorf("%d of 9 events stored", len(f.stored))
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	f := newFakeControl()
	var out bytes.Buffer
	q := newQueue(f, 100_000, slog.New(slog.NewTextHandler(&out, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() { fill(t, q, worker*1000, worker*1000+1000) })
	}
	wg.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	f.has(t, 8000)
	if out.Len() > 0 {
		t.Errorf("log: %s", out.String())
	}
}
