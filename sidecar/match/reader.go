package match

import "io"

// Reader passes on what it reads from another, with what was found in it
// overwritten. It hands out every byte as soon as that can't be part of a
// pattern, and never holds more than the longest spelling of one.
type Reader struct {
	src    io.Reader
	stream *Stream
	found  func(id int, text []byte) error
	buf    []byte // being scanned
	held   []byte // may be part of a pattern
	ready  []byte // to be handed out: what did not fit into the caller's buffer
	small  []byte // buffer for callers whose own is too small
	err    error
}

// minRead is the least room to read into.
const minRead = 512

// NewReader gives a Reader. found is called with each hit; it may overwrite
// text, and an error it returns becomes that of Read, before any byte of the
// hit is handed out.
func (s *Set) NewReader(src io.Reader, found func(id int, text []byte) error) *Reader {
	r := &Reader{src: src, found: found}
	r.stream = s.Stream(r.hit)
	return r
}

func (r *Reader) hit(id, start, end int) {
	if r.err == nil {
		r.err = r.found(id, r.buf[start:end])
	}
}

// Read reads into p. The bytes held are lost if the source fails, and handed
// out if it ends.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.ready) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if len(p) >= len(r.held)+minRead {
			if n := len(r.fill(p)); n > 0 {
				return n, nil
			}
			continue
		}
		if need := len(r.held) + minRead; len(r.small) < need {
			r.small = make([]byte, need)
		}
		r.ready = r.fill(r.small)
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// fill reads once and gives the front of buf that can be handed out.
func (r *Reader) fill(buf []byte) []byte {
	n := copy(buf, r.held)
	m, err := r.src.Read(buf[n:])
	r.buf = buf[:n+m]
	held := r.stream.Scan(r.buf, n)
	out := r.buf[:n+m-held]
	r.buf = r.buf[n+m-held:]
	if r.err == nil && err == io.EOF {
		r.stream.End()
		out = buf[:n+m]
	}
	r.held = append(r.held[:0], r.buf...)
	if r.err != nil {
		return nil
	}
	r.err = err
	return out
}
