package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"sallyport/control/api"
	"sallyport/sidecar/match"
)

// MinToken is the length in bytes from which a token can be told from other
// text. A shorter one is not sent.
const MinToken = 8

// MaskedToken is the length in bytes from which a token is masked. One that is
// shorter can be guessed, and stands in other text by chance: its masks would spoil
// that, and their places tell which guess is right. A response that holds it is
// refused.
const MaskedToken = 16

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
	all   []match.Pattern // until they are compiled
	names [][]byte        // in lower case: header names don't keep their case
	short bool            // what holds them is refused
	err   error
}

// Compile makes the Patterns of material and of its texts on the wire: the
// token, what it decodes to, and its renderings, each in every encoding that
// is in common use. Usernames are no secret.
func Compile(m api.Material, rendered [][]byte) *Patterns {
	p := &Patterns{err: Check(m), short: len(m.Token) < MaskedToken}
	if p.err != nil {
		p.set = match.Compile(nil)
		return p
	}
	p.add(m.Token)
	for _, text := range decoded(m.Token) {
		p.add(text)
	}
	for _, text := range rendered {
		// "Basic dXNlcjpwYXNz" is looked for without its first word.
		text = text[bytes.LastIndexByte(text, ' ')+1:]
		if len(text) >= MinToken && !bytes.Contains(text, m.Token) {
			p.add(text)
		}
	}
	p.set = match.Compile(p.all)
	p.all = nil
	return p
}

// maxTwice is the longest text in bytes that is looked for in base64 of base64:
// that takes nine patterns.
const maxTwice = 4 << 10

// add adds the patterns of text in every encoding.
func (p *Patterns) add(text []byte) {
	p.all = append(p.all, match.Pattern{Units: match.Text(text)}, match.Pattern{Units: match.Hex(text)})
	if utf8.Valid(text) {
		p.addWide(text, binary.LittleEndian)
		p.addWide(text, binary.BigEndian)
	}
	spaced := fmt.Appendf(nil, "% x", text)
	p.names = append(p.names, bytes.ToLower(text), []byte(hex.EncodeToString(text)), bytes.ReplaceAll(spaced, []byte(" "), []byte("-"))) // of the separators a name has this one
	clear(spaced)
	for _, escaped := range escapedAsUsual(text) {
		p.addBase64(escaped)
		clear(escaped)
	}
	p.addBase64(text)
	for offset := range 3 {
		std, safe := certain(base64.RawStdEncoding, text, offset), certain(base64.RawURLEncoding, text, offset)
		p.names = append(p.names, bytes.ToLower(std), bytes.ToLower(safe))
		if len(text) <= maxTwice {
			p.addBase64(std)
			if !bytes.Equal(std, safe) {
				p.addBase64(safe)
			}
		}
		clear(std)
		clear(safe)
	}
}

// addWide adds text in UTF-16.
func (p *Patterns) addWide(text []byte, order binary.AppendByteOrder) {
	var wide []byte
	for _, unit := range utf16.Encode([]rune(string(text))) {
		wide = order.AppendUint16(wide, unit)
	}
	p.all = append(p.all, match.Pattern{Units: match.Bytes(wide)})
	clear(wide)
}

// addBase64 adds base64 of text.
func (p *Patterns) addBase64(text []byte) {
	for offset := range 3 {
		p.all = append(p.all, match.Pattern{Units: match.Base64(text, offset)})
	}
}

// escapedAsUsual gives text as encoders write it in a query, in a path, in JSON and in
// HTML, where that is another: what is then made base64 of, in a token or a message, is
// such text. Short ones only: each takes three patterns.
func escapedAsUsual(text []byte) [][]byte {
	if len(text) > maxTwice || !utf8.Valid(text) {
		return nil
	}
	s := string(text)
	var safe, plain bytes.Buffer
	for buffer, escape := range map[*bytes.Buffer]bool{&safe: true, &plain: false} {
		encoder := json.NewEncoder(buffer)
		encoder.SetEscapeHTML(escape)
		if err := encoder.Encode(s); err != nil {
			panic(fmt.Sprintf("encode a string in JSON: %v", err))
		}
	}
	inner := func(b *bytes.Buffer) []byte { return b.Bytes()[1 : b.Len()-2] } // quotation marks, and a line feed
	all := [][]byte{
		[]byte(url.QueryEscape(s)), []byte(url.PathEscape(s)), inner(&safe), inner(&plain), bytes.ReplaceAll(inner(&plain), []byte("/"), []byte(`\/`)),
		[]byte(html.EscapeString(s)), []byte(strings.NewReplacer(`"`, "&quot;", "'", "&#039;", "&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)),
	}
	var others [][]byte
	for _, escaped := range all {
		if bytes.Equal(escaped, text) || slices.ContainsFunc(others, func(o []byte) bool { return bytes.Equal(o, escaped) }) {
			clear(escaped)
			continue
		}
		others = append(others, escaped)
	}
	return others
}

// certain gives the characters of base64 that text alone decides where it begins
// offset bytes after a multiple of three.
func certain(encoding *base64.Encoding, text []byte, offset int) []byte {
	shifted := append(make([]byte, offset), text...)
	s := encoding.AppendEncode(nil, shifted)
	clear(shifted)
	return s[(offset*8+5)/6 : len(shifted)*8/6]
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

// maskName masks what a header's name holds. It keeps a name that holds nothing.
func (p *Patterns) maskName(name string) (masked string, count int) {
	if !slices.ContainsFunc(p.names, func(n []byte) bool { return len(n) <= len(name) }) {
		return name, 0
	}
	lower := bytes.ToLower([]byte(name))
	plain, at := decodeName(lower)
	for _, n := range p.names {
		for {
			i := bytes.Index(plain, n)
			if i < 0 {
				break
			}
			mask(plain[i : i+len(n)])
			mask(lower[at[i]:at[i+len(n)]])
			count++
		}
	}
	if count == 0 {
		return name, 0
	}
	return http.CanonicalHeaderKey(string(lower)), count
}

// decodeName gives a name without its percent-encoding, and where each byte of
// that, and its end, is in the name.
func decodeName(name []byte) (plain []byte, at []int) {
	for i := 0; i <= len(name); {
		at = append(at, i)
		if i == len(name) {
			break
		}
		c, end := name[i], i+1
		for c == '%' && end+2 <= len(name) { // over and over: %255f
			var b [1]byte
			if _, err := hex.Decode(b[:], name[end:end+2]); err != nil {
				break
			}
			c, end = b[0], end+2
		}
		plain, i = append(plain, c), end
	}
	return bytes.ToLower(plain), at
}

// Redactor gives a new Redactor, for one request.
func (p *Patterns) Redactor() *Redactor { return &Redactor{patterns: p} }

// Once gives the Redactor of a request whose secret no other request bears. It lets
// parts of bodies through: those of two answers don't add up.
func (p *Patterns) Once() *Redactor { return &Redactor{patterns: p, parts: true} }

// pieceOnce is the length in bytes of the pieces that CompileOnce looks for.
const pieceOnce = 16

// CompileOnce makes the Patterns of a text that one request bears alone, of at least 16
// bytes. It is looked for piece by piece, since a part of an answer may begin or end
// within it; with its characters spelled in any way and in no other encoding: Compile
// takes as long as many requests do.
func CompileOnce(text []byte) *Patterns {
	p := &Patterns{names: [][]byte{bytes.ToLower(text)}}
	for len(text) > 0 {
		size := pieceOnce
		if len(text) < 2*size {
			size = len(text)
		}
		p.all = append(p.all, match.Pattern{Units: match.Text(text[:size])})
		text = text[size:]
	}
	p.set = match.Compile(p.all)
	p.all = nil
	return p
}

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
