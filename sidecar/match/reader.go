package match

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Reader passes on what it reads from another, with what was found in it
// overwritten. It hands out every byte as soon as that can't be part of a
// pattern, or when the source is silent for a while: then who waits for the rest
// of a message gets it. What follows is searched as if there had been no pause.
type Reader struct {
	src      io.ReadCloser
	pass     *Pass
	open     func([]byte) (int, error)
	patience time.Duration
	held     []byte // may be part of a pattern; in keep or at the front of buf
	keep     []byte
	ready    []byte // to be handed out, in buf
	buf      []byte
	err      error
	silence  *time.Timer
	pending  *reading // has not been taken yet

	mu       sync.Mutex // guards what Close looks at
	asked    chan *reading
	closed   bool
	readings sync.WaitGroup // the goroutine that reads for asked
}

// reading is a Read of the source that goes on in another goroutine, so that
// its silence can be told.
type reading struct {
	buf  []byte
	n    int
	err  error
	done chan struct{}
}

const (
	minRead = 512 // the least room to read into
	maxRoom = 32 << 10
)

var errClosed = errors.New("read of a closed body")

// Reader gives what is read from src, searched. If open is given, it is called
// with all that is read, piece by piece, and says how many bytes at the end are of
// a message that is not yet whole. No more are held back. An error of open ends the
// Reader, and nothing of that piece is handed out.
func (s Search) Reader(src io.ReadCloser, open func([]byte) (int, error)) *Reader {
	return &Reader{src: src, pass: s.Begin(), open: open, patience: s.Patience()}
}

// Read reads into p. The bytes held are lost if the source fails, and handed
// out if it ends.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.ready) == 0 {
		switch {
		case r.err != nil:
			return 0, r.err
		case len(r.held) == 0 && r.pending == nil && len(p) >= minRead:
			m, err := r.src.Read(p)
			if out := r.scan(p[:m], 0, err); len(out) > 0 {
				return len(out), nil
			}
		default:
			r.fill(len(p))
		}
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// fill reads once into the Reader's own buffer, or gives up what is held.
func (r *Reader) fill(room int) {
	if r.pending == nil {
		room = max(minRead, min(room, maxRoom), len(r.held))
		if len(r.buf) < len(r.held)+room {
			r.buf = make([]byte, len(r.held)+room)
		}
		n := copy(r.buf, r.held)
		r.held = r.buf[:n]
		if n == 0 {
			m, err := r.src.Read(r.buf)
			r.ready = r.scan(r.buf[:m], 0, err)
			return
		}
		if r.pending = r.start(r.buf[n:]); r.pending == nil {
			r.err = errClosed
			return
		}
	}
	if !r.wait() {
		r.release()
		return
	}
	got := r.pending
	r.pending = nil
	text, from := got.buf[:got.n], len(r.held)
	if from > 0 { // they lie side by side
		text = r.buf[:from+got.n]
	}
	r.ready = r.scan(text, from, got.err)
}

// start begins a Read of the source. It gives nil when the Reader is closed.
func (r *Reader) start(buf []byte) *reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	if r.asked == nil { // one goroutine for all: each would have to grow its stack anew
		asked := make(chan *reading, 1)
		r.asked = asked
		r.readings.Go(func() { r.readAsked(asked) })
	}
	rd := &reading{buf: buf, done: make(chan struct{})}
	r.asked <- rd // never waits: the one before was taken
	return rd
}

// readAsked reads as it is asked to, until the source or the Reader ends.
func (r *Reader) readAsked(asked <-chan *reading) {
	for rd := range asked {
		rd.read(r.src)
		ended := rd.err != nil
		close(rd.done)
		if ended {
			return
		}
	}
}

func (rd *reading) read(src io.Reader) {
	defer func() {
		if p := recover(); p != nil { // it ends this stream, not the process
			rd.n, rd.err = 0, fmt.Errorf("read panicked: %v", p)
		}
	}()
	rd.n, rd.err = src.Read(rd.buf)
}

// wait reports whether the reading ended before the source was silent too long.
func (r *Reader) wait() bool {
	if len(r.held) == 0 {
		<-r.pending.done
		return true
	}
	if r.silence == nil {
		r.silence = time.NewTimer(r.patience)
	} else {
		r.silence.Reset(r.patience)
	}
	defer r.silence.Stop()
	select {
	case <-r.pending.done:
		return true
	case <-r.silence.C:
		return false
	}
}

// release hands out what is held, during a silence.
func (r *Reader) release() {
	err := r.pass.Pause()
	r.pass.Release(len(r.held))
	if err == nil {
		r.ready = r.held
	} else if r.err == nil {
		r.err = err
	}
	r.held = nil
}

// scan looks at text, from from on, and gives the front that can be handed out.
func (r *Reader) scan(text []byte, from int, err error) []byte {
	hold, found := r.pass.Scan(text, from)
	if r.open != nil {
		unfinished, broken := r.open(text[from:])
		hold = min(hold, unfinished)
		if found == nil {
			found = broken
		}
	}
	if err == io.EOF && found == nil {
		found, hold = r.pass.End(), 0
	}
	out := text[:len(text)-hold]
	r.pass.Release(len(out))
	r.keep = append(r.keep[:0], text[len(out):]...)
	r.held = r.keep
	if found != nil {
		r.err = found
		return nil
	}
	r.err = err
	return out
}

// Close closes the source and waits for a Read of it that goes on.
func (r *Reader) Close() error {
	r.mu.Lock()
	if r.asked != nil && !r.closed {
		close(r.asked)
	}
	r.closed = true
	r.mu.Unlock()
	err := r.src.Close()
	r.readings.Wait()
	return err
}
