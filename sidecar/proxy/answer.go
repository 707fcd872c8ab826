package proxy

import (
	"bufio"
	"bytes"
	"io"
)

// twoFramings reports whether the head that comes next says in two ways where
// its message ends. net/http goes by one and forgets the other; RFC 9112 section
// 6.3 sees an attack there. A head too long to be seen whole counts as one.
func twoFramings(in *bufio.Reader) bool {
	for n := 1; ; n = in.Buffered() + 1 {
		if _, err := in.Peek(n); err != nil {
			return err == bufio.ErrBufferFull
		}
		seen, _ := in.Peek(in.Buffered()) // that much is there
		if end := bytes.Index(seen, []byte("\n\r\n")); end >= 0 {
			return hasField(seen[:end], "content-length:") && hasField(seen[:end], "transfer-encoding:")
		}
		if !bytes.HasPrefix(seen, []byte("HTTP/")[:min(len(seen), 5)]) || bytes.Contains(seen, []byte("\n\n")) {
			return true // no HTTP, or lines that end in LF alone
		}
	}
}

// hasField looks for a field by its name, in small letters and with the colon.
func hasField(head []byte, name string) bool {
	for {
		_, rest, found := bytes.Cut(head, []byte("\n"))
		if !found {
			return false
		}
		if head = rest; len(head) >= len(name) && bytes.EqualFold(head[:len(name)], []byte(name)) {
			return true
		}
	}
}

// arrived reports whether some of a response's body is there to be read. A head
// does not wait for a body that may take its time: an event stream is open before
// its first event.
func arrived(body io.Reader) bool {
	b, ok := body.(*wireBody)
	return ok && b.exchange.in != nil && b.exchange.in.Buffered() > 0
}
