package match

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Text gives the units of text with every character in any of these spellings,
// which may be mixed:
//
//   - as it is
//   - percent-encoded (RFC 3986), also over and over: %5f, %255f
//   - escaped as in JSON and JavaScript, also over and over: \u005f, \\u005f,
//     \u{5f}, \x5f, \137, \_
//   - as an HTML character reference, by number, padded or without its
//     semicolon, or by name, also over and over: &#95; &#x005f &lowbar; &amp;#95;
//   - what is no letter or digit, as one of these within another: %5Cu005f, %26lowbar%3B,
//     \u0026lowbar; \&lowbar;
func Text(text []byte) []*Unit {
	units := make([]*Unit, 0, len(text))
	known := make(map[string]*Unit)
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		char := string(text[:size])
		if known[char] == nil {
			known[char] = newUnit(longSpelling * size)
			if size == 1 {
				known[char].spell(entry, text[0], exit)
			} else {
				known[char].spellRune(r)
			}
		}
		units = append(units, known[char])
		text = text[size:]
	}
	return units
}

// longSpelling is room for any spelling of a byte that has no more padding than
// is in use, such as \\\\\\\\u005f or &#x0000005f;
const longSpelling = 16

// Bytes gives the units of text as it is and not otherwise.
func Bytes(text []byte) []*Unit {
	units := make([]*Unit, 0, len(text))
	var known [256]*Unit
	for _, c := range text {
		if known[c] == nil {
			known[c] = newUnit(1)
			known[c].edge(entry, c, exit)
		}
		units = append(units, known[c])
	}
	return units
}

// named are the names that HTML has for characters of ASCII.
var named = map[byte][]string{
	'\t': {"Tab;"}, '\n': {"NewLine;"}, '!': {"excl;"}, '"': {"quot", "quot;", "QUOT;"}, '#': {"num;"}, '$': {"dollar;"},
	'%': {"percnt;"}, '&': {"amp", "amp;", "AMP;"}, '\'': {"apos;"}, '(': {"lpar;"}, ')': {"rpar;"}, '*': {"ast;", "midast;"},
	'+': {"plus;"}, ',': {"comma;"}, '.': {"period;"}, '/': {"sol;"}, ':': {"colon;"}, ';': {"semi;"},
	'<': {"lt", "lt;", "LT;"}, '=': {"equals;"}, '>': {"gt", "gt;", "GT;"}, '?': {"quest;"}, '@': {"commat;"},
	'[': {"lsqb;", "lbrack;"}, '\\': {"bsol;"}, ']': {"rsqb;", "rbrack;"}, '^': {"Hat;"}, '_': {"lowbar;", "UnderBar;"},
	'`': {"grave;", "DiacriticalGrave;"}, '{': {"lcub;", "lbrace;"}, '|': {"verbar;", "vert;", "VerticalLine;"}, '}': {"rcub;", "rbrace;"},
}

// spell adds the spellings of a byte between two nodes.
func (u *Unit) spell(from uint32, c byte, to uint32) {
	digits := fmt.Sprintf("%02x", c)
	u.edge(from, c, to)
	u.hex(u.percent(from), digits, to)

	escape := u.backslash(from)
	u.hex(escape, "u00"+digits, to)
	u.hex(u.step(escape, 'x', to), digits, to)
	u.path(escape, fmt.Sprintf("%03o", c), to)
	u.braced(escape, digits, to)
	switch {
	case c == '\t':
		u.edge(escape, 't', to)
	case c == '\n':
		u.edge(escape, 'n', to)
	case c == '\r':
		u.edge(escape, 'r', to)
	case c < '0' || c > '9' && c < 'A' || c > 'Z' && c < 'a' || c > 'z':
		u.edge(escape, c, to)
	}

	name, end := u.referenceTo(from, c, digits, to)
	if c == ' ' {
		u.edge(from, '+', to) // in a query, application/x-www-form-urlencoded
	}
	if !strings.ContainsRune(alphanumeric, rune(c)) {
		u.spellWithin(from, c, digits, to)
		u.hex(u.percent(from), "26", name)
		u.hex(escape, "u0026", name)
		u.hex(u.percent(name), "23", u.step(name, '#'))
		u.hex(u.percent(end), "3b", to)
	}
}

// spellWithin adds what becomes of an escape that is escaped in another way in its turn:
// JSON in a query, %5Cu003c and %5C%22, or in HTML, \&quot; and what spell adds: HTML in
// a query, %26lt%3B, or in JSON, \u0026lt;
func (u *Unit) spellWithin(from uint32, c byte, digits string, to uint32) {
	escape := u.backslash(from)
	u.hex(u.percent(from), "5c", escape)
	u.hex(u.percent(escape), "5c", escape)
	u.hex(u.percent(escape), digits, to)
	u.referenceTo(escape, c, digits, to)
	for _, name := range named[c] {
		if name, closed := strings.CutSuffix(name, ";"); closed {
			u.path(u.step(from, '&', exit), name+"%3B", to)
			u.path(u.step(from, '&', exit), name+"%3b", to)
		}
	}
}

// referenceTo adds HTML's references to a byte, by number and by name, and gives the
// node after "&" and that before ";" of a number.
func (u *Unit) referenceTo(from uint32, c byte, digits string, to uint32) (name, end uint32) {
	name, end = u.reference(from, strconv.Itoa(int(c)), digits, to)
	for _, known := range named[c] {
		u.path(name, known, to)
	}
	return name, end
}

// spellRune adds the spellings of a character that is no single byte of UTF-8.
func (u *Unit) spellRune(r rune) {
	raw := string(r)
	u.path(entry, raw, exit)
	percent, escaped := uint32(entry), uint32(entry)
	for i := range len(raw) {
		next := u.last(i == len(raw)-1)
		u.hex(u.percent(percent), fmt.Sprintf("%02x", raw[i]), next)
		percent = next
	}
	units := utf16.Encode([]rune{r})
	for i, unit := range units {
		next := u.last(i == len(units)-1)
		u.hex(u.backslash(escaped), fmt.Sprintf("u%04x", unit), next)
		escaped = next
	}
	digits := strconv.FormatInt(int64(r), 16)
	u.braced(u.backslash(entry), digits, exit)
	u.reference(entry, strconv.Itoa(int(r)), digits, exit)
}

func (u *Unit) last(last bool) uint32 {
	if last {
		return exit
	}
	return u.node()
}

// percent gives the node after a percent sign, which may itself be encoded.
func (u *Unit) percent(from uint32) uint32 {
	at := u.step(from, '%', exit)
	u.path(at, "25", at)
	return at
}

// backslash gives the node after backslashes: each time that escaped text is
// escaped again there are more of them.
func (u *Unit) backslash(from uint32) uint32 {
	at := u.step(from, '\\', exit)
	u.edge(at, '\\', at)
	return at
}

// braced adds \u{…}.
func (u *Unit) braced(escape uint32, digits string, to uint32) {
	at := u.step(u.step(escape, 'u', to), '{')
	u.edge(at, '0', at)
	end := u.node()
	u.hex(at, trimZeros(digits), end)
	u.edge(end, '}', to)
}

// reference adds HTML's references by number, and gives the node after "&" and that
// before ";".
func (u *Unit) reference(from uint32, decimal, digits string, to uint32) (name, end uint32) {
	name = u.step(from, '&', exit)
	u.path(name, "amp;", name)
	number := u.step(name, '#')
	u.edge(number, '0', number)
	hex := u.step(number, 'x')
	u.edge(number, 'X', hex)
	u.edge(hex, '0', hex)
	end = u.node()
	u.edge(end, ';', to)
	for _, next := range []uint32{to, end} { // some parsers need no semicolon
		u.path(number, decimal, next)
		u.hex(hex, trimZeros(digits), next)
	}
	return name, end
}

func trimZeros(digits string) string {
	for len(digits) > 1 && digits[0] == '0' {
		digits = digits[1:]
	}
	return digits
}
