package proxy

import (
	"bufio"
	"io"
	"sync"
)

// buffers keeps buffers for the connections that have a request under way.
type buffers struct{ readers, requests, writers sync.Pool }

const (
	readBuffer  = 4 << 10
	writeBuffer = 32 << 10
)

func (b *buffers) reader(from io.Reader) *bufio.Reader {
	if r, ok := b.readers.Get().(*bufio.Reader); ok {
		r.Reset(from)
		return r
	}
	return bufio.NewReaderSize(from, readBuffer)
}

func (b *buffers) putReader(r *bufio.Reader) {
	r.Reset(nil)
	b.readers.Put(r)
}

// request gives what a request is written through.
func (b *buffers) request(to io.Writer) *bufio.Writer {
	if w, ok := b.requests.Get().(*bufio.Writer); ok {
		w.Reset(to)
		return w
	}
	return bufio.NewWriterSize(to, readBuffer)
}

func (b *buffers) putRequest(w *bufio.Writer) {
	w.Reset(nil)
	b.requests.Put(w)
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
