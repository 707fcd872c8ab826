package strict

import (
	"bytes"
	"net/http"
	"strconv"
)

// parser follows the bytes of a connection from request to request.
type parser struct {
	limits   Limits
	phase    phase
	line     []byte // begun in an earlier feed
	size     int    // bytes of this head, or of these trailers, so far
	fields   int
	head     head
	left     int64 // bytes of body or chunk to come
	requests int   // heads completed
	switches bool  // the request that ended last may switch protocols
	ended    bool  // a request has ended; the caller resets it
}

type phase uint8

const (
	requestLine phase = iota
	fieldLine
	fixedBody
	chunkLine
	chunkData
	chunkEnd
	trailerLine
	lastLine
)

func (p *parser) inHead() bool { return p.phase <= fieldLine }

// feed looks at the front of b: n bytes of it, which go on if pass. It stops at
// the end of a request. Bytes of a line that is not complete go on at once,
// those that complete a bad one never.
func (p *parser) feed(b []byte) (n int, pass bool, refusal *Error) {
	switch p.phase {
	case fixedBody, chunkData:
		n = int(min(p.left, int64(len(b))))
		if p.left -= int64(n); p.left == 0 {
			p.bodyEnds()
		}
		return n, true, nil
	case trailerLine:
		if len(p.line) == 0 && b[0] == '\r' {
			p.phase = lastLine
			return 0, true, nil
		}
		n, refusal = p.feedLine(b)
		return n, false, refusal
	}
	n, refusal = p.feedLine(b)
	return n, true, refusal
}

// keptLine is how much room for lines a connection keeps.
const keptLine = 1 << 10

// maxChunkLine holds 15 digits, which can't overflow, and CR LF.
const maxChunkLine = 17

// feedLine looks at b up to the end of a line, or at all of it.
func (p *parser) feedLine(b []byte) (int, *Error) {
	end := bytes.IndexByte(b, '\n')
	piece := b[:end+1]
	if end < 0 {
		piece = b
	}
	if refusal := p.measure(len(piece)); refusal != nil {
		return 0, refusal
	}
	if end < 0 {
		p.line = append(p.line, piece...)
		return len(piece), nil
	}
	line := piece
	if len(p.line) > 0 {
		p.line = append(p.line, piece...)
		line = p.line
	}
	line, refusal := trimEnd(line)
	if refusal == nil {
		refusal = p.take(line)
	}
	if p.line = p.line[:0]; cap(p.line) > keptLine {
		p.line = nil
	}
	if refusal != nil {
		return end, refusal // all but the line feed
	}
	return end + 1, nil
}

// measure counts n more bytes of a line.
func (p *parser) measure(n int) *Error {
	if p.phase == chunkLine || p.phase == chunkEnd || p.phase == lastLine {
		if len(p.line)+n > maxChunkLine {
			return malformed("a chunk's size is not up to 15 hexadecimal digits alone; extensions are not taken")
		}
		return nil
	}
	if p.size += n; p.size > p.limits.Head {
		return &Error{Status: http.StatusRequestHeaderFieldsTooLarge, Code: "head_too_large",
			Message: "the request's head is longer than " + strconv.Itoa(p.limits.Head) + " bytes"}
	}
	return nil
}

func trimEnd(line []byte) ([]byte, *Error) {
	line, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return nil, malformed("a line ends in LF without CR")
	}
	return line, nil
}

// take judges a line, without its end, and goes on to the next phase.
func (p *parser) take(line []byte) *Error {
	switch p.phase {
	case requestLine:
		p.head = head{}
		p.phase = fieldLine
		return p.head.request(line, p.limits.Proxy)
	case fieldLine:
		if len(line) == 0 {
			return p.headEnds()
		}
		if refusal := p.count(); refusal != nil {
			return refusal
		}
		return p.head.field(line)
	case chunkLine:
		return p.chunk(line)
	case chunkEnd:
		if len(line) > 0 {
			return malformed("a chunk is longer than its size says")
		}
		p.phase = chunkLine
	case trailerLine:
		if refusal := p.count(); refusal != nil {
			return refusal
		}
		_, _, refusal := splitField(line)
		return refusal
	case lastLine:
		if len(line) > 0 {
			return malformed("a CR stands alone in the trailers")
		}
		p.requestEnds()
	}
	return nil
}

func (p *parser) count() *Error {
	if p.fields++; p.fields > p.limits.Fields {
		return &Error{Status: http.StatusRequestHeaderFieldsTooLarge, Code: "head_too_large",
			Message: "the request has more than " + strconv.Itoa(p.limits.Fields) + " header fields"}
	}
	return nil
}

func (p *parser) headEnds() *Error {
	if refusal := p.head.check(); refusal != nil {
		return refusal
	}
	p.requests++
	p.size, p.fields = 0, 0
	switch {
	case p.head.chunked:
		p.phase = chunkLine
	case p.head.length > 0:
		p.phase, p.left = fixedBody, p.head.length
	default:
		p.requestEnds()
	}
	return nil
}

func (p *parser) chunk(line []byte) *Error {
	for _, c := range line {
		if !isHex(c) {
			return malformed("a chunk's size is not a hexadecimal number alone; extensions are not taken")
		}
	}
	n, err := strconv.ParseInt(string(line), 16, 64)
	switch {
	case err != nil:
		return malformed("a chunk has no size")
	case n == 0:
		p.phase = trailerLine
	default:
		p.phase, p.left = chunkData, n
	}
	return nil
}

func (p *parser) bodyEnds() {
	if p.phase == chunkData {
		p.phase = chunkEnd
		return
	}
	p.requestEnds()
}

func (p *parser) requestEnds() {
	p.phase, p.size, p.fields = requestLine, 0, 0
	p.ended, p.switches = true, p.head.switches
}
