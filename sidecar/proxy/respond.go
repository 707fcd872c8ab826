package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"sallyport/sidecar/head"
)

// interim writes a 1xx.
func (f *front) interim(status int, header http.Header) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begun || !f.request.ProtoAtLeast(1, 1) {
		return // HTTP/1.0 has none
	}
	w := f.server.buffers.writer()
	defer f.server.buffers.putWriter(w)
	w.line(status)
	w.fields(header)
	w.text("\r\n")
	// A client that is gone is noticed by what follows.
	_, _ = f.conn.Write(w.bytes)
}

// respond writes a response as it comes: the head and what there is of the body
// at once, then each piece.
func (f *front) respond(response *http.Response) (int64, error) {
	f.mu.Lock()
	f.begun = true
	f.mu.Unlock()
	w := f.server.buffers.writer()
	defer f.server.buffers.putWriter(w)
	framing := f.frame(response)
	f.head(w, response, framing)
	if framing == noBody || !f.arrived {
		if err := f.write(w); err != nil || framing == noBody {
			return 0, err
		}
		w.bytes = w.bytes[:0]
	}
	var total int64
	for {
		n, err := w.read(response.Body, framing == chunked)
		total += int64(n)
		ends := err == io.EOF
		switch {
		case ends && framing == sized && total != response.ContentLength,
			framing == sized && total > response.ContentLength:
			return total, fmt.Errorf("pass on %d bytes of %d: %w", total, response.ContentLength, io.ErrUnexpectedEOF)
		case err != nil && !ends:
			return total, fmt.Errorf("read the response: %w", err)
		case ends && framing == chunked:
			w.text("0\r\n")
			w.fields(response.Trailer)
			w.text("\r\n")
		}
		if len(w.bytes) > 0 {
			if err := f.write(w); err != nil {
				return total, fmt.Errorf("write the response: %w", err)
			}
			w.bytes = w.bytes[:0]
		}
		if ends {
			return total, nil
		}
	}
}

// write writes what was gathered.
func (f *front) write(w *writer) error {
	f.stall.begin()
	defer f.stall.end()
	_, err := f.conn.Write(w.bytes)
	return err
}

// framing is how a body's end is told (RFC 9112 section 6.3).
type framing int

const (
	noBody framing = iota
	sized
	chunked
	untilClose
)

func (f *front) frame(response *http.Response) framing {
	status := response.StatusCode
	_, told := response.Header["Content-Length"]
	switch {
	case f.request.Method == http.MethodHead, status == http.StatusNoContent, status == http.StatusNotModified, status < 200:
		return noBody
	case told && response.ContentLength >= 0 && len(response.Trailer) == 0:
		return sized
	case f.request.ProtoAtLeast(1, 1):
		return chunked
	}
	return untilClose
}

// head writes the status line and the fields. They are the upstream's but for
// what frames the body and says whether the connection stays.
func (f *front) head(w *writer, response *http.Response, framing framing) {
	h := response.Header
	switch {
	case framing == sized:
		h["Content-Length"] = []string{strconv.FormatInt(response.ContentLength, 10)}
	case framing != noBody || response.StatusCode == http.StatusNoContent:
		delete(h, "Content-Length")
	}
	if _, found := h["Date"]; !found {
		h["Date"] = []string{time.Now().UTC().Format(http.TimeFormat)} // RFC 9110 section 6.6.1
	}
	if framing == untilClose || f.state.Load() == frontDraining || response.StatusCode >= 400 && !ended(f.request.Body) {
		f.last = true
	}
	w.line(response.StatusCode)
	w.fields(h)
	if framing == chunked {
		w.text("Transfer-Encoding: chunked\r\n")
		for name := range response.Trailer {
			w.text("Trailer: ", name, "\r\n")
		}
	}
	switch {
	case f.last:
		w.text("Connection: close\r\n")
	case !f.request.ProtoAtLeast(1, 1):
		w.text("Connection: keep-alive\r\n")
	}
	w.text("\r\n")
}

// upgrade writes a 101 and gives the connection.
func (f *front) upgrade(response *http.Response) (io.ReadWriteCloser, error) {
	f.mu.Lock()
	f.begun = true
	f.mu.Unlock()
	w := f.server.buffers.writer()
	defer f.server.buffers.putWriter(w)
	w.line(response.StatusCode)
	w.fields(response.Header)
	w.text("\r\n")
	if _, err := f.conn.Write(w.bytes); err != nil {
		return nil, err
	}
	return f.detach()
}

// writer gathers what is written to a client at once.
type writer struct{ bytes []byte }

// chunkHead has room for the size of a chunk that fits a buffer, and its CR LF.
const chunkHead = len("7fff\r\n")

func (w *writer) text(pieces ...string) {
	for _, s := range pieces {
		w.bytes = append(w.bytes, s...)
	}
}

// line writes a status line. The reason is ours: the upstream's could say anything.
func (w *writer) line(status int) {
	w.text("HTTP/1.1 ")
	w.bytes = strconv.AppendInt(w.bytes, int64(status), 10)
	w.text(" ", http.StatusText(status), "\r\n")
}

// fields writes a header.
func (w *writer) fields(h http.Header) { w.bytes = head.AppendFields(w.bytes, h) }

// read reads once, as a chunk of its own where that is asked for.
func (w *writer) read(body io.Reader, chunk bool) (int, error) {
	begin := len(w.bytes)
	if cap(w.bytes)-begin < 2<<10 {
		w.bytes = append(w.bytes, make([]byte, writeBuffer)...)[:begin]
	}
	room := w.bytes[begin:cap(w.bytes)]
	room = room[:min(len(room), writeBuffer-1)]
	if !chunk {
		n, err := body.Read(room)
		w.bytes = w.bytes[:begin+n]
		return n, err
	}
	n, err := body.Read(room[chunkHead : len(room)-2])
	if n == 0 {
		return 0, err
	}
	head := append(strconv.AppendInt(make([]byte, 0, chunkHead), int64(n), 16), "\r\n"...)
	copy(room, head)
	if len(head) < chunkHead {
		copy(room[len(head):], room[chunkHead:chunkHead+n])
	}
	w.bytes = append(w.bytes[:begin+len(head)+n], "\r\n"...)
	return n, err
}
