package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"

	"sallyport/control/api"
	"sallyport/sidecar/match"
)

// MinToken is the length in bytes from which a token can be told from other
// text. A shorter one would be masked all over a response, and its length and
// places would tell what it is. Tokens under 16 bytes are redacted, but a
// person should be told that they are weak.
const MinToken = 8

// ErrShortToken reports a token that can't be redacted.
var ErrShortToken = errors.New("the credential's secret is shorter than 8 bytes and could not be hidden in the response; store a longer one")

// Check reports why responses to requests that bear m could not be redacted, if
// they could not. Ask before sending.
func Check(m api.Material) error {
	if len(m.Token) < MinToken {
		return ErrShortToken
	}
	return nil
}

// Patterns is what to look for, compiled: made once a lease, shared by its requests.
type Patterns struct {
	set   *match.Set
	names [][]byte // in lower case: header names don't keep their case
	err   error
}

// Compile makes the Patterns of material and of its texts on the wire: the
// token, what it decodes to, and its renderings, each in every encoding that
// is in common use. Usernames are no secret.
func Compile(m api.Material, rendered [][]byte) *Patterns {
	p := &Patterns{err: Check(m)}
	if p.err != nil {
		p.set = match.Compile(nil)
		return p
	}
	var all []match.Pattern
	encoded := func(text []byte) {
		all = append(all, match.Pattern{Units: match.Text(text)}, match.Pattern{Units: match.Hex(text)})
		for offset := range 3 {
			all = append(all, match.Pattern{Units: match.Base64(text, offset)})
		}
		p.addNames(text)
	}
	encoded(m.Token)
	for _, text := range decoded(m.Token) {
		encoded(text)
	}
	for _, text := range rendered {
		// "Basic dXNlcjpwYXNz" is echoed with and without its first word.
		for _, text := range [][]byte{text, text[bytes.LastIndexByte(text, ' ')+1:]} {
			if len(text) >= MinToken && !bytes.Contains(text, m.Token) {
				all = append(all, match.Pattern{Units: match.Text(text)})
				p.names = append(p.names, bytes.ToLower(text))
			}
		}
	}
	p.set = match.Compile(all)
	return p
}

// decoded gives the texts a token is an encoding of: one that was stored as
// base64 of USER:PASSWORD gives that and the password.
func decoded(token []byte) [][]byte {
	var texts [][]byte
	add := func(text []byte, err error) {
		if err != nil || len(text) < MinToken || bytes.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			return
		}
		texts = append(texts, text)
		if _, password, found := bytes.Cut(text, []byte(":")); found && len(password) >= MinToken {
			texts = append(texts, password)
		}
	}
	s := strings.TrimRight(string(token), "=")
	add(base64.RawStdEncoding.DecodeString(s))
	if strings.ContainsAny(s, "-_") {
		add(base64.RawURLEncoding.DecodeString(s))
	}
	add(hex.DecodeString(s))
	return texts
}

// addNames notes text as it may stand in the name of a header.
func (p *Patterns) addNames(text []byte) {
	p.names = append(p.names, bytes.ToLower(text), []byte(hex.EncodeToString(text)))
	for offset := range 3 {
		shifted := append(make([]byte, offset), text...)
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			s := encoding.EncodeToString(shifted)
			// Only the characters that text alone decides.
			s = s[(offset*8+5)/6 : len(shifted)*8/6]
			p.names = append(p.names, []byte(strings.ToLower(s)))
		}
		clear(shifted)
	}
}

// maskName masks what a header's name holds. It keeps a name that holds nothing.
func (p *Patterns) maskName(name string) (masked string, count int) {
	var lower []byte
	for _, n := range p.names {
		if len(name) < len(n) {
			continue
		}
		if lower == nil {
			lower = bytes.ToLower([]byte(name))
		}
		for {
			at := bytes.Index(lower, n)
			if at < 0 {
				break
			}
			mask(lower[at : at+len(n)])
			count++
		}
	}
	if count == 0 {
		return name, 0
	}
	return http.CanonicalHeaderKey(string(lower)), count
}

// Redactor gives a new Redactor, for one request.
func (p *Patterns) Redactor() *Redactor { return &Redactor{patterns: p} }

// Wipe overwrites the patterns. No Redactor of theirs may be in use.
func (p *Patterns) Wipe() {
	p.set.Wipe()
	for _, n := range p.names {
		clear(n)
	}
}

func mask(text []byte) {
	for i := range text {
		text[i] = '*'
	}
}
