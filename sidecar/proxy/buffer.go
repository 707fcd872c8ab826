package proxy

import (
	"bufio"
	"io"
	"sync"
)

// buffers keeps buffers for the connections that have a request under way. What
// upstreams are written and read through may have held a credential, and is wiped.
type buffers struct {
	readers, answers, requests, uploads, writers sync.Pool
	gathers                                      gathers
}

const (
	readBuffer   = 4 << 10
	answerBuffer = 16 << 10 // the heads that services send are not short
	writeBuffer  = 32 << 10
)

// reader gives what a client is read through.
func (b *buffers) reader(from io.Reader) *bufio.Reader { return readerOf(&b.readers, from, readBuffer) }

func (b *buffers) putReader(r *bufio.Reader) { putReaderOf(&b.readers, r) }

// answer gives what an upstream is read through.
func (b *buffers) answer(from io.Reader) *bufio.Reader {
	return readerOf(&b.answers, from, answerBuffer)
}

func (b *buffers) putAnswer(r *bufio.Reader) {
	r.Reset(zeros{})
	_, _ = r.Peek(r.Size()) // overwrites all of it, and can't fail
	putReaderOf(&b.answers, r)
}

// zeros is an endless stream of zeros.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func readerOf(pool *sync.Pool, from io.Reader, size int) *bufio.Reader {
	if r, ok := pool.Get().(*bufio.Reader); ok {
		r.Reset(from)
		return r
	}
	return bufio.NewReaderSize(from, size)
}

func putReaderOf(pool *sync.Pool, r *bufio.Reader) {
	r.Reset(nil)
	pool.Put(r)
}

// request gives what a request is written through.
func (b *buffers) request(to io.Writer) *bufio.Writer { return writerOf(&b.requests, to, readBuffer) }

func (b *buffers) putRequest(w *bufio.Writer) { putWriterOf(&b.requests, w) }

// upload gives what a request is written through whose body comes over time.
func (b *buffers) upload(to io.Writer) *bufio.Writer { return writerOf(&b.uploads, to, writeBuffer) }

func (b *buffers) putUpload(w *bufio.Writer) { putWriterOf(&b.uploads, w) }

func writerOf(pool *sync.Pool, to io.Writer, size int) *bufio.Writer {
	if w, ok := pool.Get().(*bufio.Writer); ok {
		w.Reset(to)
		return w
	}
	return bufio.NewWriterSize(to, size)
}

func putWriterOf(pool *sync.Pool, w *bufio.Writer) {
	w.Reset(nil)
	all := w.AvailableBuffer()
	clear(all[:cap(all)])
	pool.Put(w)
}

func (b *buffers) writer() *writer {
	if w, ok := b.writers.Get().(*writer); ok {
		return w
	}
	return &writer{bytes: make([]byte, 0, writeBuffer)}
}

func (b *buffers) putWriter(w *writer) {
	if cap(w.bytes) > 2*writeBuffer {
		return
	}
	w.bytes = w.bytes[:0]
	b.writers.Put(w)
}
