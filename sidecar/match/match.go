// Package match finds known texts in a stream, with each character in any of the
// spellings that Text lists.
//
// A pattern is a sequence of units, each with several spellings:
//
//	v ─┬─ v ────┬─ a ─┬─ a ────┬─ …
//	   ├─ %76 ──┤     ├─ %61 ──┤
//	   └─ \u0076┘     └─ \u0061┘
//
// All patterns together are made into one deterministic automaton, anchored at
// their first byte. A stream starts a thread of it wherever a pattern may begin.
// A thread's start is therefore where a hit begins, which an Aho-Corasick
// automaton, whose depth is that only while every character has one spelling,
// would not tell. While no thread lives, which is nearly always, the
// stream leaps: a table of byte pairs says how far the next beginning is at least
// (Wu and Manber, 1994).
//
// Bytes that may be part of a hit are held back until that is known, or the
// source falls silent. Where patterns are secret, what is held back does not
// depend on them: see Search.
package match

// Pattern is something to find.
type Pattern struct {
	ID    int // reported with a hit
	Units []*Unit
	// Word patterns are names: one that goes on with a letter or digit, or with
	// one of "._-" and any of these, is another name and no hit. The longest hit
	// of those that begin at a place counts. A hit is known only when the bytes
	// that follow are.
	Word bool
}

const none = -1

// Set is patterns, compiled. It does not change until it is wiped, and may be
// used by several goroutines at once.
type Set struct {
	states []state
	edges  []edge
	root   [256]uint32 // the states after a first byte; 0: no pattern begins so
	shift  []uint8     // by gram: how far ahead the next pattern may begin at least
	pairs  []uint64    // bits, by two bytes: a pattern may begin with these
	window int         // bytes at the front of each pattern that shift knows
	short  int         // bytes of the shortest text that holds a pattern
	blind  blind       // what to hold back when the patterns are secret
}

type state struct {
	edges  uint32 // index of the first
	count  uint16
	word   bool  // its hit is known only when the bytes that follow are
	cancel bool  // it was another name
	hit    int32 // pattern, or none
}

type edge struct {
	c  byte
	to uint32
}

// maxWindow bounds how far one leap can go. Longer ones make more pairs known.
const maxWindow = 32

// noWindow is longer than any buffer: no leaps.
const noWindow = 1 << 40

// shiftSize is the length of the table of pairs: it stays in the first cache.
const shiftSize = 1 << 13

func gram(a, b byte) int { return (int(a)<<5 ^ int(b)) & (shiftSize - 1) }

// next is the state after c, or 0.
func (s *Set) next(from uint32, c byte) uint32 {
	st := &s.states[from]
	for _, e := range s.edges[st.edges : st.edges+uint32(st.count)] {
		if e.c == c {
			return e.to
		}
	}
	return 0
}

// Shortest is the length in bytes of the shortest text that can hold a pattern.
func (s *Set) Shortest() int { return s.short }

// Wipe overwrites the set. No stream of it may be in use; one that is finds nothing more.
func (s *Set) Wipe() {
	clear(s.edges)
	clear(s.shift)
	clear(s.pairs)
	clear(s.states)
	clear(s.root[:])
}

// Possible reports whether text may hold a pattern. False is certain.
func Possible[T string | []byte](s *Set, text T) bool {
	return len(text) >= s.short && skip(s, text, 0) < len(text)
}

// skip gives the first place from i on where a pattern may begin, or the end.
func skip[T string | []byte](s *Set, p T, i int) int {
	w, shift := s.window, s.shift
	far := w - 1
	for i+w <= len(p) {
		switch n := int(shift[gram(p[i+w-2], p[i+w-1])]); n {
		case far:
			// Nearly always. A leap whose length is not read from the table need not wait for it.
			i += far
			continue
		case 0:
		default:
			i += n
			continue
		}
		if s.pair(p[i], p[i+1]) {
			return i
		}
		i++
	}
	for ; i+1 < len(p); i++ {
		if s.pair(p[i], p[i+1]) {
			return i
		}
	}
	if i < len(p) && s.root[p[i]] == 0 {
		i++
	}
	return i
}

// pair reports whether a pattern may begin with a and b.
func (s *Set) pair(a, b byte) bool {
	n := int(a)<<8 | int(b)
	return s.pairs[n>>6]>>(n&63)&1 != 0
}

// begins reports whether a pattern may begin at i, by the bytes that skip would
// look at.
func (s *Set) begins(buf []byte, i int) bool {
	if i+1 < len(buf) && !s.pair(buf[i], buf[i+1]) {
		return false
	}
	end := i + s.window
	return end > len(buf) || s.shift[gram(buf[end-2], buf[end-1])] == 0
}

// Stream is one pass over a stream of bytes.
type Stream struct {
	set     *Set
	found   func(id, start, end int)
	threads []thread
	tangled bool // there were too many threads, and some were given up
}

// maxThreads is how many places of a text may begin a pattern at once. There are
// few, but where a pattern repeats itself and the text does what it does.
const maxThreads = 64

// thread is one place where a pattern may have begun. Offsets are into the
// buffer of the scan that goes on, and negative for what was released.
type thread struct {
	state uint32
	start int
	id    int // of the word found so far, or none
	end   int // of that word
}

// Stream begins a pass. found is called for each hit with the pattern's ID and
// where it lies in the buffer being scanned, which it may overwrite there.
func (s *Set) Stream(found func(id, start, end int)) *Stream {
	return &Stream{set: s, found: found}
}

// Scan looks at buf from from on. It says how many bytes at the end of buf may
// be part of a pattern. All others are decided and hits in them have been
// reported. The caller tells by Release how many bytes it takes off the front,
// puts what it keeps at the front of the buffer of the next scan, and gives its
// length as from.
func (s *Stream) Scan(buf []byte, from int) (live int) {
	for i := from; i < len(buf); i++ {
		if len(s.threads) == 0 {
			if i = skip(s.set, buf, i); i == len(buf) {
				return 0
			}
		}
		c := buf[i] // a hit that ends here may overwrite it
		to := s.set.root[c]
		if to != 0 && !s.set.begins(buf, i) {
			to = 0
		}
		s.step(i, c)
		if to != 0 {
			s.enter(thread{start: i, id: none}, to, i)
		}
	}
	first := len(buf)
	for _, t := range s.threads {
		first = min(first, t.start)
	}
	return len(buf) - max(first, 0)
}

// Release says that n bytes were taken off the front of the buffer. A hit that
// began among them is reported from the first byte that is left.
func (s *Stream) Release(n int) {
	for i := range s.threads {
		s.threads[i].start -= n
		s.threads[i].end -= n
	}
}

// End reports the hits that only the end of the stream makes certain.
func (s *Stream) End() {
	s.Pause()
	s.threads = s.threads[:0]
}

// Pause takes the names found so far for whole, although they might go on.
func (s *Stream) Pause() {
	for i := range s.threads {
		s.report(s.threads[i])
		s.threads[i].id = none
	}
}

// report reports the word that a thread has found, if any.
func (s *Stream) report(t thread) {
	if t.id != none {
		s.hit(t.id, t.start, t.end)
	}
}

func (s *Stream) hit(id, start, end int) { s.found(id, max(start, 0), max(end, 0)) }

// step moves every thread over c, the byte at i.
func (s *Stream) step(i int, c byte) {
	threads := s.threads
	s.threads = s.threads[:0]
	for _, t := range threads {
		if to := s.set.next(t.state, c); to != 0 {
			s.enter(t, to, i)
		} else {
			s.report(t)
		}
	}
}

// enter keeps t, which the byte at i brought to a state.
func (s *Stream) enter(t thread, to uint32, i int) {
	t.state = to
	switch st := &s.set.states[to]; {
	case st.hit != none && st.word:
		t.id, t.end = int(st.hit), i+1
	case st.hit != none:
		s.hit(int(st.hit), t.start, i+1)
		t.start, t.id = i+1, none // a longer one only needs what follows
	case st.cancel:
		t.id = none
	}
	switch {
	case s.set.states[to].count == 0:
		s.report(t)
	case s.merged(t):
	case len(s.threads) == maxThreads:
		s.tangled = true
	default:
		s.threads = append(s.threads, t)
	}
}

// merged reports whether another thread goes on as t does, and makes that begin
// where the first of both did: spellings can be padded, so a text may begin a
// pattern at each of its bytes.
func (s *Stream) merged(t thread) bool {
	if t.id != none {
		return false
	}
	for i := range s.threads {
		if o := &s.threads[i]; o.state == t.state && (o.id == none || o.start <= t.start) {
			o.start = min(o.start, t.start)
			return true
		}
	}
	return false
}

// Find reports each pattern in text, without changing it: none, and all of the text,
// if it repeats itself as a pattern does at more places than can be followed.
func (s *Set) Find(text string, found func(id, start, end int)) {
	if !Possible(s, text) {
		return
	}
	stream := s.Stream(found)
	buf := []byte(text)
	stream.Scan(buf, 0)
	stream.End()
	if stream.tangled {
		found(none, 0, len(text))
	}
	clear(buf)
}
