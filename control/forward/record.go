package forward

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"

	"sallyport/control/store"
)

// record is an event as it is sent: what an export has, and whose it is.
type record struct {
	Team string `json:"team,omitempty"`
	store.ChainedEvent
	Hash string `json:"hash"`

	Truncated bool `json:"truncated,omitempty"` // texts were shortened to fit
}

func recordOf(e Event) record {
	return record{Team: e.Team, ChainedEvent: e.ChainedEvent, Hash: hex.EncodeToString(e.Hash)}
}

// warns reports whether somebody should look: something was refused, an identity is in
// two hands, or a receiver lacks events.
func (e Event) warns() bool {
	return e.Decision == "refuse" || e.Kind == "sandbox.alert" || e.Kind == "sandbox.lock" || e.Kind == store.Refused
}

// line is the record as a line of printable ASCII, of which no reader makes two, of at most
// limit bytes: texts are shortened until it fits.
func (r record) line(limit int) ([]byte, error) {
	for texts := limit; ; texts /= 2 {
		var buffer bytes.Buffer
		encoder := json.NewEncoder(&buffer)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(r); err != nil {
			return nil, fmt.Errorf("encode an event: %w", err)
		}
		line := ascii(bytes.TrimSuffix(buffer.Bytes(), []byte("\n")))
		if len(line) <= limit || texts == 0 {
			return line, nil
		}
		r.shorten(texts / 16)
	}
}

// shorten cuts the texts that may be long to n bytes.
func (r *record) shorten(n int) {
	r.Truncated = true
	for _, text := range []*string{
		&r.Actor, &r.Agent, &r.Sandbox, &r.RequestID, &r.Host, &r.Method, &r.Path, &r.Protocol, &r.Decision, &r.Reason, &r.Credential, &r.Lease, &r.Detail,
	} {
		if len(*text) > n {
			*text = (*text)[:n]
		}
	}
}

// ascii writes whatever of JSON is not printable ASCII as an escape (RFC 8259 section 7).
func ascii(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		text = text[size:]
		switch {
		case r >= ' ' && r <= '~':
			out = append(out, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}
