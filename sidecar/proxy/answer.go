package proxy

import "io"

// arrived reports whether some of a response's body is there to be read. A head
// does not wait for a body that may take its time: an event stream is open before
// its first event.
func arrived(body io.Reader) bool {
	b, ok := body.(*wireBody)
	return ok && b.exchange.in != nil && b.exchange.in.Buffered() > 0
}
