package inject

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"sync/atomic"
)

// SignError is why a request can't be signed. Nothing of it was sent, or not its end.
type SignError struct {
	Status  int
	Code    string
	Message string
}

func (e *SignError) Error() string { return e.Message }

func unsigned(status int, code, format string, args ...any) error {
	return &SignError{status, code, fmt.Sprintf(format, args...)}
}

// MostHeld is the longest body in bytes that is held to be signed, where its hash
// has to stand before it.
const MostHeld = 8 << 20

// Budget bounds what the bodies of all requests may hold together.
type Budget struct{ left atomic.Int64 }

// NewBudget gives a Budget of n bytes.
func NewBudget(n int64) *Budget {
	b := new(Budget)
	b.left.Store(n)
	return b
}

// loan is what one request holds of a Budget.
type loan struct {
	budget *Budget
	held   int64
}

func (l *loan) take(n int64) error {
	if l.budget.left.Add(-n) < 0 {
		l.budget.left.Add(n)
		return unsigned(http.StatusServiceUnavailable, "too_many_requests", "too many bodies are held to be signed at once; try again when some have gone")
	}
	l.held += n
	return nil
}

func (l *loan) giveBack() {
	l.budget.left.Add(l.held)
	l.held = 0
}

// hold reads the request's body to its end and puts it back.
func (l *loan) hold(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	if r.ContentLength > MostHeld {
		return nil, tooLong()
	}
	var text []byte
	for size := max(r.ContentLength, 4<<10); ; size = min(2*size, MostHeld+1) {
		if err := l.take(size - int64(cap(text))); err != nil {
			return nil, err
		}
		grown := make([]byte, len(text), size)
		copy(grown, text)
		text = grown
		n, err := io.ReadFull(r.Body, text[len(text):cap(text)])
		text = text[:len(text)+n]
		ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err == nil && int64(len(text)) == r.ContentLength {
			ended, err = reachEnd(r.Body)
		}
		switch {
		case len(text) > MostHeld:
			return nil, tooLong()
		case ended:
			return text, l.putBack(r, text)
		case err != nil:
			return nil, fmt.Errorf("read the request's body: %w", err)
		}
	}
}

// reachEnd lets a body that is complete say so, and what comes with its end be known.
func reachEnd(body io.Reader) (bool, error) {
	var b [1]byte
	n, err := io.ReadFull(body, b[:])
	if n > 0 {
		return false, errors.New("it is longer than it says")
	}
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}

func (l *loan) putBack(r *http.Request, text []byte) error {
	if r.ContentLength >= 0 && r.ContentLength != int64(len(text)) {
		return fmt.Errorf("read the request's body: %w", io.ErrUnexpectedEOF)
	}
	r.ContentLength = int64(len(text))
	if len(text) == 0 {
		r.Body = http.NoBody
		return nil
	}
	r.Body = &kept{bytes.NewReader(text), r.Body}
	return nil
}

func tooLong() error {
	return unsigned(http.StatusRequestEntityTooLarge, "body_too_long_to_sign",
		"the signature covers the body, which has more than %d MiB and comes without its hash; let the client send x-amz-content-sha256, or less at once", MostHeld>>20)
}

// kept is a body that was read already.
type kept struct {
	*bytes.Reader
	io.Closer
}

// verified passes on a body whose hash was signed before it came. Its last byte
// goes only if the hash is right: else the request is never complete.
type verified struct {
	io.ReadCloser
	want    []byte
	hash    hash.Hash
	held    []byte // at most one byte
	scratch [2]byte
}

func verify(body io.ReadCloser, want []byte) io.ReadCloser {
	return &verified{ReadCloser: body, want: want, hash: sha256.New()}
}

func (v *verified) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	buffer := p
	if len(p) == 1 {
		buffer = v.scratch[:] // room for what is held and another
	}
	n := copy(buffer, v.held)
	m, err := v.ReadCloser.Read(buffer[n:])
	v.hash.Write(buffer[n : n+m])
	n += m
	switch {
	case err == io.EOF:
		if subtle.ConstantTimeCompare(v.hash.Sum(nil), v.want) != 1 {
			return 0, errPayload
		}
		if n > len(p) { // two bytes for a p of one: the end comes with the next
			v.held = append(v.held[:0], buffer[1])
			p[0] = buffer[0]
			v.ReadCloser = &drained{v.ReadCloser}
			return 1, nil
		}
		v.held = v.held[:0]
		copy(p, buffer[:n])
		return n, io.EOF
	case err != nil:
		return 0, err
	case n == 0:
		return 0, nil
	}
	v.held = append(v.held[:0], buffer[n-1])
	copy(p, buffer[:n-1])
	return n - 1, nil
}

// drained has nothing more to read.
type drained struct{ io.Closer }

func (*drained) Read([]byte) (int, error) { return 0, io.EOF }

var errPayload = unsigned(http.StatusBadRequest, "payload_mismatch", "the body is not the one whose hash the request names in x-amz-content-sha256; its end was not sent")
