// Package socket searches what flows through a WebSocket (RFC 6455), in either
// direction, and passes it on frame by frame.
//
//	      ┌─ head ──────────────────────────────────────────┐
//	bytes ┼─ data ──── message, over fragments and writes ──┼─ bytes
//	      └─ control ─ by itself ───────── search ──────────┘
//
// What is found is overwritten by as many bytes, under the same masking key, so
// the heads of frames pass as they came. Of a message that goes on its end is held
// back, as match.Search says, until more of it comes or its sender is silent; its
// end, and with it every whole message, goes out at once. A control frame waits only
// for what is held back of the fragment before it.
//
// It is for connections without extensions: what is compressed has reserved bits.
package socket

import (
	"encoding/binary"
	"io"

	"sallyport/sidecar/match"
)

// policyViolation is a code of Close frames, RFC 6455 section 7.4.1.
const policyViolation = 1008

// Join gives what is to be written to instead of a client and of an upstream: one
// searches what the upstream sends by responses, one what the client sends by
// requests. Where the latter finds what ends it, the client is told by a Close frame.
func Join(client, upstream io.Writer, responses, requests match.Search) (toClient, toUpstream *Writer) {
	toClient, toUpstream = NewWriter(client, Server, responses), NewWriter(upstream, Client, requests)
	toUpstream.refused = func() { toClient.say(policyViolation) }
	return toClient, toUpstream
}

// say ends what is passed on with a Close frame, unless a frame is half written or
// somebody waits to write one.
func (w *Writer) say(code uint16) {
	if !w.mu.TryLock() {
		return
	}
	defer w.mu.Unlock()
	if w.err != nil || w.closed || w.left > 0 || len(w.spans) > 0 {
		return
	}
	w.over = true
	// A client that can't be told is one that left.
	_, _ = w.to.Write(binary.BigEndian.AppendUint16([]byte{final | opClose, 2}, code))
}
