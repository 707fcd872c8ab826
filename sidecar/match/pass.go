package match

import (
	"errors"
	"time"
)

// Search is what is looked for in a stream, and what is done when it is found.
type Search struct {
	Set *Set
	// Secret patterns: how much is held back is independent of what they are.
	Secret bool
	// Found is called with each hit; it may overwrite text. An error it returns ends
	// the search, before the last byte of the hit is handed out.
	Found func(id int, text []byte) error
}

// How long a source may say nothing while bytes are held. Where these may be of
// a secret it is longer than packets are lost and round trips take: a client that
// can stall a stream must not be able to cut a secret in two.
const (
	shortSilence = 50 * time.Millisecond
	longSilence  = time.Second
)

// ErrTangled reports a pattern that repeats itself in a text that does so too, at
// more places than can be followed.
var ErrTangled = errors.New("what is searched for repeats itself, and so does the text")

// maxHeld bounds what may be part of a hit that is no secret, in bytes: spellings
// can be padded without end.
const maxHeld = 64 << 10

// Patience is how long a source may be silent before what is held is handed out.
func (s Search) Patience() time.Duration {
	if s.Secret {
		return longSilence
	}
	return shortSilence
}

// Pass is one pass of a Search over a stream that is handed out as it is read.
type Pass struct {
	search Search
	stream *Stream
	text   []byte // being scanned
	err    error
}

// Begin begins a pass.
func (s Search) Begin() *Pass {
	p := &Pass{search: s}
	p.stream = s.Set.Stream(p.hit)
	return p
}

func (p *Pass) hit(id, start, end int) {
	if p.err == nil {
		p.err = p.search.Found(id, p.text[start:end])
	}
}

// Scan looks at text, from from on, and says how many bytes at its end are to be
// held back: those may be part of a hit.
func (p *Pass) Scan(text []byte, from int) (hold int, err error) {
	p.text = text
	if p.search.Secret {
		hold = p.search.Set.blind.hold(text) // before anything is overwritten
	}
	live := p.stream.Scan(text, from)
	if p.stream.tangled && p.err == nil {
		p.err = ErrTangled
	}
	if !p.search.Secret {
		hold = min(live, maxHeld)
	}
	return hold, p.err
}

// Release says that n bytes are taken off the front of the text.
func (p *Pass) Release(n int) { p.stream.Release(n) }

// Pause decides, in a silence, about what may be found to go on.
func (p *Pass) Pause() error {
	p.stream.Pause()
	return p.err
}

// End decides about all that is held.
func (p *Pass) End() error {
	p.stream.End()
	return p.err
}
