package socket

import (
	"fmt"
	"io"
	"sync"
	"time"

	"sallyport/sidecar/match"
)

// Writer passes on the frames that are written to it.
type Writer struct {
	to      io.Writer
	side    Side
	search  match.Search
	refused func() // is called when no more is passed on; nil for nobody

	mu      sync.Mutex
	pass    *match.Pass
	hit     bool   // something was overwritten
	raw     []byte // came, and was not passed on
	at      int    // of raw, what was read
	frame   frame  // that is being read
	left    uint64 // bytes of its payload to come
	message bool   // has begun, and not ended
	text    []byte // of the message, of what is in raw
	scanned int    // bytes of text
	spans   []span // where text lies
	over    bool   // nothing more is passed on, and nobody need know
	err     error
	due     time.Time // when what is held is passed on all the same
	silence *time.Timer
	closed  bool
}

// span is a piece of text and of raw that are the same but for the key.
type span struct {
	text, raw, n int
	key          uint32
}

// NewWriter makes a Writer of the frames of one side. Its Write fails with
// ErrMalformed, what search finds, or what to fails with.
func NewWriter(to io.Writer, side Side, search match.Search) *Writer {
	w := &Writer{to: to, side: side, search: search}
	found := search.Found
	w.search.Found = func(id int, text []byte) error {
		w.hit = true
		return found(id, text)
	}
	w.pass = w.search.Begin()
	return w
}

// Write takes what its side sent next, and passes on what is decided of it.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	if w.over {
		return len(p), nil
	}
	w.raw = append(w.raw, p...)
	text := len(w.text)
	err := w.read()
	if err == nil {
		err = w.scan()
	}
	if w.proceed(err); w.err != nil {
		return 0, w.err
	}
	if held := len(w.text); held > 0 && (held != text || w.silence == nil) {
		w.await()
	}
	return len(p), nil
}

// maxHeads bounds the heads and control frames that are held back with a text, for
// each byte of that and beyond.
const (
	headsOfByte = 16
	moreHeads   = 64 << 10
)

var errHeads = fmt.Errorf("%w: too many for what they hold", ErrMalformed)

// read goes through what came.
func (w *Writer) read() error {
	for w.at < len(w.raw) {
		if w.left == 0 {
			n, err := w.begin()
			if err != nil || n == 0 {
				return err
			}
			w.at += n
		}
		n := int(min(w.left, uint64(len(w.raw)-w.at)))
		payload := w.raw[w.at : w.at+n]
		if w.frame.control() {
			if n < int(w.left) {
				return nil // until it is whole
			}
			if err := w.control(payload); err != nil {
				return err
			}
		} else {
			w.add(payload)
		}
		w.at += n
		w.left -= uint64(n)
		if w.left > 0 || w.frame.control() {
			continue
		}
		if w.message = !w.frame.final; !w.message {
			if err := w.finish(); err != nil {
				return err
			}
		}
	}
	return nil
}

// begin reads the head of a frame, and gives its length: 0 if it is not whole.
func (w *Writer) begin() (int, error) {
	f, n, err := w.side.parse(w.raw[w.at:])
	if n == 0 {
		return 0, nil
	}
	if !f.control() && w.message != (f.opcode == opContinue) {
		err = ErrMalformed
	}
	if err == nil {
		w.frame, w.left = f, f.length
		return n, nil
	}
	if w.side == Server {
		return n, err
	}
	// The server will say what is wrong with it, and hears nothing else.
	w.over = true
	if err := w.finish(); err != nil {
		return n, err
	}
	w.at += n
	w.raw = w.raw[:w.at]
	return 0, nil
}

// add adds a piece of a message.
func (w *Writer) add(payload []byte) {
	if len(payload) == 0 {
		return
	}
	key := turned(w.frame.key, w.frame.length-w.left)
	if last := len(w.spans) - 1; last >= 0 && w.spans[last].raw+w.spans[last].n == w.at {
		w.spans[last].n += len(payload) // of the same frame
	} else {
		w.spans = append(w.spans, span{len(w.text), w.at, len(payload), key})
	}
	w.text = append(w.text, payload...)
	if key != 0 {
		mask(w.text[len(w.text)-len(payload):], payload, key)
	}
}

// control searches a control frame.
func (w *Writer) control(payload []byte) error {
	if len(payload) == 0 {
		return nil
	}
	text := make([]byte, len(payload))
	mask(text, payload, w.frame.key)
	pass := w.search.Begin()
	w.hit = false
	_, err := pass.Scan(text, 0)
	if err == nil {
		err = pass.End()
	}
	if w.hit {
		mask(payload, text, w.frame.key)
	}
	return err
}

// scan decides about the text as far as it came.
func (w *Writer) scan() error {
	if len(w.text) == w.scanned {
		return nil
	}
	w.hit = false
	hold, err := w.pass.Scan(w.text, w.scanned)
	if err == nil {
		w.release(hold)
	}
	return err
}

// finish decides about all of the text: the message ends, or is silent.
func (w *Writer) finish() error {
	w.hit = false
	_, err := w.pass.Scan(w.text, w.scanned)
	if err == nil {
		err = w.pass.Pause()
	}
	if err == nil {
		w.release(0)
	}
	return err
}

// release takes all but the last bytes off the text.
func (w *Writer) release(hold int) {
	if w.hit {
		for _, s := range w.spans {
			mask(w.raw[s.raw:s.raw+s.n], w.text[s.text:s.text+s.n], s.key)
		}
	}
	gone := len(w.text) - hold
	w.pass.Release(gone)
	w.text = w.text[:copy(w.text, w.text[gone:])]
	w.scanned = hold
	kept := w.spans[:0]
	for _, s := range w.spans {
		if cut := gone - s.text; cut > 0 {
			if cut >= s.n {
				continue
			}
			s = span{gone, s.raw + cut, s.n - cut, turned(s.key, uint64(cut))}
		}
		s.text -= gone
		kept = append(kept, s)
	}
	w.spans = kept
}

// proceed passes on what is decided, and ends with err if there is one.
func (w *Writer) proceed(err error) {
	flushed := w.flush()
	if err == nil {
		w.err = flushed
		return
	}
	w.err = err
	if w.refused != nil {
		w.refused()
	}
}

// flush passes on what is before the text that is held back.
func (w *Writer) flush() error {
	ready := w.at
	if len(w.spans) > 0 {
		ready = w.spans[0].raw
	}
	if ready > 0 {
		if _, err := w.to.Write(w.raw[:ready]); err != nil {
			return err
		}
		w.raw = w.raw[:copy(w.raw, w.raw[ready:])]
		w.at -= ready
		for i := range w.spans {
			w.spans[i].raw -= ready
		}
	}
	if len(w.raw) > moreHeads+headsOfByte*len(w.text) {
		return errHeads
	}
	return nil
}

// await has what is held passed on when nothing more of it comes.
func (w *Writer) await() {
	patience := w.search.Patience()
	w.due = time.Now().Add(patience)
	if w.silence == nil {
		w.silence = time.AfterFunc(patience, w.idle)
		return
	}
	w.silence.Reset(patience)
}

func (w *Writer) idle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.over || w.err != nil || len(w.text) == 0 {
		return
	}
	if wait := time.Until(w.due); wait > 0 { // it was set anew meanwhile
		w.silence.Reset(wait)
		return
	}
	w.proceed(w.finish())
}

// Close ends what is passed on by itself. Nothing is written when it has returned.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.silence != nil {
		w.silence.Stop()
	}
	clear(w.text[:cap(w.text)])
	clear(w.raw[:cap(w.raw)])
	return nil
}
