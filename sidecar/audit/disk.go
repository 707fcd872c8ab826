package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"sallyport/control/api"
)

// File is where the slots of durable intents are kept beside the journal. Sync
// returns when all that was written is on the disk.
type File interface {
	io.WriterAt
	Sync() error
	Size() (int64, error)
	Truncate(size int64) error
}

// disk copies slots of the journal to a file, laid out alike: many with one sync.
// One goroutine does all that may block. Its fields but the first two are guarded by
// the queue's lock. A nil disk does nothing.
type disk struct {
	file  File
	queue *Queue
	owner string

	kept    map[uint32]bool // slots that the file has something of
	dirty   []uint32        // slots to be written
	next    *commit         // that those belong to
	started time.Time       // of the commit under way; zero for none
	wake    chan struct{}
	stopped chan bool // takes whether nothing is left to keep
}

// commit is one round of writing.
type commit struct {
	awaited bool // by a request
	done    chan struct{}
	err     error // known once done
}

func newCommit() *commit { return &commit{done: make(chan struct{})} }

// newDisk writes again all that the worker before may have left in the file.
func newDisk(file File, owner string, q *Queue) *disk {
	size, err := file.Size()
	d := &disk{
		file: file, queue: q, owner: owner, kept: make(map[uint32]bool), next: newCommit(),
		wake: make(chan struct{}, 1), stopped: make(chan bool, 1),
	}
	if err == nil && size == 0 {
		return d
	}
	for n := range q.journal.used {
		d.kept[n] = true
		d.dirty = append(d.dirty, n)
	}
	return d
}

// join has a slot written in the commit it gives, which is awaited.
func (d *disk) join(slot uint32) *commit {
	d.kept[slot] = true
	d.dirty = append(d.dirty, slot)
	d.next.awaited = true
	d.flush()
	return d.next
}

// changed has a slot that the file has something of written with the next commit.
func (d *disk) changed(slot uint32) {
	if d != nil && d.kept[slot] {
		d.dirty = append(d.dirty, slot)
	}
}

// flush begins a commit soon.
func (d *disk) flush() {
	if d == nil {
		return
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// wait returns when c is on the disk, or can't be, or has taken too long.
func (d *disk) wait(ctx context.Context, c *commit, done <-chan struct{}) error {
	patience := intendTimeout
	d.queue.mu.Lock()
	if !d.started.IsZero() { // the disk hangs, perhaps: what comes later waits no longer than what came first
		patience = max(0, patience-time.Since(d.started))
	}
	d.queue.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
		if c.err != nil {
			return fmt.Errorf("%w: %w", ErrDisk, c.err)
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("%w: it has not taken it for %v", ErrDisk, intendTimeout)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrDisk, ctx.Err())
	}
}

// run commits until stop, and then once more.
func (d *disk) run() error {
	for {
		select {
		case <-d.wake:
			d.commit()
		case empty := <-d.stopped:
			d.commit()
			if empty {
				return d.file.Truncate(0)
			}
			return d.file.Sync()
		}
	}
}

// stop ends run. empty: nothing is left that is worth keeping.
func (d *disk) stop(empty bool) { d.stopped <- empty }

// piece is what is written of a slot.
type piece struct {
	slot  uint32
	bytes []byte
}

// commit writes what is to be written, and syncs if somebody waits.
func (d *disk) commit() {
	q := d.queue
	q.mu.Lock()
	c, pieces := d.next, d.gather()
	d.next = newCommit()
	d.started = time.Now()
	q.mu.Unlock()
	c.err = d.write(pieces)
	if c.err == nil && c.awaited {
		c.err = d.file.Sync()
	}
	q.mu.Lock()
	d.started = time.Time{}
	if c.err != nil { // to be tried again
		for _, p := range pieces {
			d.kept[p.slot] = true
			d.dirty = append(d.dirty, p.slot)
		}
	}
	q.mu.Unlock()
	if c.err != nil {
		q.log.Error("the log of intents can't be written; a request whose intent it has to hold is refused", "error", c.err)
	}
	close(c.done)
}

// gather copies the slots that are to be written, each once, and forgets those that
// are empty.
func (d *disk) gather() []piece {
	journal := d.queue.journal
	var buffer bytes.Buffer
	seen := make(map[uint32]bool, len(d.dirty))
	var pieces []piece
	for _, slot := range d.dirty {
		if seen[slot] {
			continue
		}
		seen[slot] = true
		length := journal.length(slot)
		if length == frame { // empty
			delete(d.kept, slot)
		}
		start := buffer.Len()
		buffer.Write(journal.slot(slot)[:length])
		pieces = append(pieces, piece{slot, buffer.Bytes()[start:]})
	}
	d.dirty = d.dirty[:0]
	return pieces
}

func (d *disk) write(pieces []piece) error {
	if len(pieces) > 0 && d.owner != "" {
		if _, err := d.file.WriteAt([]byte(d.owner), 0); err != nil {
			return err
		}
		d.owner = "" // once
	}
	for _, p := range pieces {
		if _, err := d.file.WriteAt(p.bytes, journalHeader+int64(p.slot)*slotSize); err != nil {
			return err
		}
	}
	return nil
}

// ReadLog gives what a file holds that no sidecar writes any more: whose it is, and
// the events that were not reported; those without an outcome have the reason Unknown.
func ReadLog(r io.Reader) (owner string, events []*api.Event, err error) {
	head := make([]byte, journalHeader)
	if _, err := io.ReadFull(r, head); err != nil {
		return "", nil, fmt.Errorf("read the log of intents: %w", err)
	}
	line, _, ok := bytes.Cut(head, []byte("\n"))
	if !ok || !bytes.HasPrefix(line, []byte("sallyport audit log v1")) {
		return "", nil, errors.New("this is no log of intents")
	}
	slot := make([]byte, slotSize)
	for {
		n, err := io.ReadFull(r, slot)
		if e := readSlot(slot[:n]); e != nil {
			if e.Sequence == 0 {
				e.Reason = Unknown
			}
			events = append(events, e)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return cleanText(string(line), maxField), events, nil
		case err != nil:
			return "", nil, fmt.Errorf("read the log of intents: %w", err)
		}
	}
}
