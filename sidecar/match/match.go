// Package match finds known texts in a stream, however their characters are
// spelt, and holds back no byte that can't be part of one.
//
// A pattern is a sequence of units, each with several spellings:
//
//	v ─┬─ v ────┬─ a ─┬─ a ────┬─ …
//	   ├─ %76 ──┤     ├─ %61 ──┤
//	   └─ \u0076┘     └─ \u0061┘
//
// All patterns together are made into one deterministic automaton, anchored at
// their first byte. A stream starts a thread of it wherever a pattern may begin.
// A thread's start is therefore the first byte that must be held back, which an
// Aho-Corasick automaton, whose depth is that only while every character has one
// spelling, would not tell. While no thread lives, which is nearly always, the
// stream leaps: a table of byte pairs says how far the next beginning is at least
// (Wu and Manber, 1994).
package match

// Pattern is something to find.
type Pattern struct {
	ID    int // reported with a hit
	Units []Unit
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
	window int         // bytes at the front of each pattern that shift knows
	short  int         // bytes of the shortest text that holds a pattern
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

// maxWindow bounds how far one leap can go. Longer ones make more pairs known
// and are seldom possible.
const maxWindow = 12

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
	clear(s.states)
	clear(s.root[:])
}

// Possible reports whether text may hold a pattern. False is certain.
func Possible[T string | []byte](s *Set, text T) bool {
	return len(text) >= s.short && skip(s, text, 0) < len(text)
}

// skip gives the first place from i on where a pattern may begin, or the end.
func skip[T string | []byte](s *Set, p T, i int) int {
	for w := s.window; i+w <= len(p); {
		if n := int(s.shift[gram(p[i+w-2], p[i+w-1])]); n > 0 {
			i += n
			continue
		}
		if s.root[p[i]] != 0 {
			return i
		}
		i++
	}
	for ; i < len(p); i++ {
		if s.root[p[i]] != 0 {
			return i
		}
	}
	return i
}

// Stream is one pass over a stream of bytes.
type Stream struct {
	set     *Set
	found   func(id, start, end int)
	threads []thread
}

// thread is one place where a pattern may have begun. Offsets are into the
// buffer of the scan that goes on.
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
// be part of a pattern: the caller keeps these, puts them at the front of the
// buffer of the next scan, and gives their number as its from. All other bytes
// are decided and hits in them have been reported.
func (s *Stream) Scan(buf []byte, from int) (held int) {
	for i := from; i < len(buf); i++ {
		if len(s.threads) == 0 {
			if i = skip(s.set, buf, i); i == len(buf) {
				return 0
			}
		}
		c := buf[i] // a hit that ends here may overwrite it
		s.step(i, c)
		if to := s.set.root[c]; to != 0 {
			s.enter(thread{start: i, id: none}, to, i)
		}
	}
	first := len(buf)
	for _, t := range s.threads {
		first = min(first, t.start)
	}
	for i := range s.threads {
		s.threads[i].start -= first
		s.threads[i].end -= first
	}
	return len(buf) - first
}

// End reports the hits that only the end of the stream makes certain. The
// buffer is the bytes held; none are held after it.
func (s *Stream) End() {
	for _, t := range s.threads {
		if t.id != none {
			s.found(t.id, t.start, t.end)
		}
	}
	s.threads = s.threads[:0]
}

// step moves every thread over c, the byte at i.
func (s *Stream) step(i int, c byte) {
	threads := s.threads
	s.threads = s.threads[:0]
	for _, t := range threads {
		if to := s.set.next(t.state, c); to != 0 {
			s.enter(t, to, i)
		} else if t.id != none {
			s.found(t.id, t.start, t.end)
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
		s.found(int(st.hit), t.start, i+1)
		t.start, t.id = i+1, none // a longer one only needs what follows
	case st.cancel:
		t.id = none
	}
	if s.set.states[to].count > 0 {
		s.threads = append(s.threads, t)
	} else if t.id != none {
		s.found(t.id, t.start, t.end)
	}
}

// Find reports each pattern in text, without changing it.
func (s *Set) Find(text string, found func(id, start, end int)) {
	if !Possible(s, text) {
		return
	}
	base := 0 // what End reports is relative to the bytes held
	stream := s.Stream(func(id, start, end int) { found(id, base+start, base+end) })
	buf := []byte(text)
	base = len(buf) - stream.Scan(buf, 0)
	stream.End()
	clear(buf)
}
