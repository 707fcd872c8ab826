package sidecar

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"

	"sallyport/control/api"
	"sallyport/sidecar/gate"
)

// blanks are what some servers take for the space after a method, beside those
// that begin another line.
const blanks = " \t\v\f\x1c\x1d\x1e\x1f\x85\xa0"

// looksHTTP reports whether some server may take what a client without TLS says
// for a request: a word and a blank begin it (RFC 9112 section 3), after line ends
// or blanks, if any. So do some other protocols, which HTTP's ports are not for.
func looksHTTP(flow *gate.Flow, first io.Reader) bool {
	if flow.Protocol == "h2" {
		return true
	}
	r := bufio.NewReader(first)
	if begin, err := r.Peek(4); err == nil && string(begin) == "SSH-" {
		// Blanks follow here too (RFC 4253 section 4.2), but no version of HTTP.
		line, err := r.ReadString('\n')
		return err != nil && err != io.EOF || strings.Contains(strings.ToUpper(line), "HTTP")
	}
	word := 0
	for {
		b, err := r.ReadByte()
		switch {
		case err == io.EOF:
			return false // and nothing follows
		case err != nil:
			return true // a word without end
		case tokenByte(b):
			word++
		case b == '\r' && word > 0:
			next, err := r.ReadByte()
			return err == nil && next != '\n'
		case word > 0 || b != '\r' && b != '\n':
			if blank := bytes.IndexByte([]byte(blanks), b) >= 0; word > 0 || !blank {
				return blank
			}
		}
	}
}

// tokenByte reports whether a method may have b (RFC 9110 section 5.6.2).
func tokenByte(b byte) bool {
	switch {
	case '0' <= b && b <= '9', 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z':
		return true
	}
	return bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), b) >= 0
}

// namesHost reports whether a client without TLS that speaks HTTP begins with a
// request to a host by its name.
func namesHost(flow *gate.Flow, first io.Reader) bool {
	if flow.Protocol == "h2" {
		return true
	}
	r, err := http.ReadRequest(bufio.NewReader(first))
	if err != nil {
		return false
	}
	name, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		name = r.Host // it has no port
	}
	_, err = api.NormalizeHost(name)
	return err == nil
}

// speaksHTTP reports whether the first byte may be one of a method (RFC 9110
// section 5.6.2), or of the line ends that some send before it.
func speaksHTTP(first io.Reader) bool {
	var b [1]byte
	if _, err := io.ReadFull(first, b[:]); err != nil {
		return false
	}
	return b[0] == '\r' || b[0] == '\n' || b[0] > ' ' && b[0] < 0x7f && b[0] != '"' && b[0] != '('
}
