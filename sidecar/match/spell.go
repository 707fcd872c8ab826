package match

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Unit is one step of a pattern: the spellings of which any one matches.
type Unit []string

// Text gives the units of text with every character in any spelling that the
// web has for it: as it is, percent-encoded (RFC 3986), escaped as in JSON and
// JavaScript, and as an HTML character reference. Spellings may be mixed.
func Text(text []byte) []Unit {
	units := make([]Unit, 0, len(text))
	known := make(map[string]Unit)
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		char := string(text[:size])
		if known[char] == nil {
			if size == 1 {
				known[char] = spellByte(text[0])
			} else {
				known[char] = spellRune(r)
			}
		}
		units = append(units, known[char])
		text = text[size:]
	}
	return units
}

// Base64 gives the units of the base64 text (RFC 4648 sections 4 and 5) that
// text becomes where it begins offset bytes, 0 to 2, after a multiple of three.
// Every character that carries a bit of text is part of it, and padding is not.
func Base64(text []byte, offset int) []Unit {
	first, end := offset*8, (offset+len(text))*8
	var units []Unit
	for at := first / 6 * 6; at < end; at += 6 {
		var fixed, mask byte
		for bit := at; bit < at+6; bit++ {
			fixed, mask = fixed<<1, mask<<1
			if bit >= first && bit < end {
				mask |= 1
				fixed |= text[(bit-first)/8] >> (7 - bit%8) & 1
			}
		}
		units = append(units, spellSextet(fixed, mask))
	}
	return units
}

// Hex gives the units of text in hexadecimal, in either case.
func Hex(text []byte) []Unit {
	units := make([]Unit, 0, 2*len(text))
	for _, c := range text {
		for _, digit := range []byte{c >> 4, c & 15} {
			units = append(units, Unit(bothCases(strconv.FormatUint(uint64(digit), 16))))
		}
	}
	return units
}

const (
	alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	base64Std    = alphanumeric + "+/"
	base64URL    = alphanumeric + "-_"
)

// spellSextet gives the characters of both alphabets for the sextets that have
// the fixed bits where mask is set.
func spellSextet(fixed, mask byte) Unit {
	var u Unit
	for v := range byte(64) {
		switch {
		case v&mask != fixed:
		case v < 62:
			u = append(u, base64Std[v:v+1])
		default:
			u = append(append(u, spellByte(base64Std[v])...), base64URL[v:v+1])
		}
	}
	return u
}

// named are the spellings of characters that have one of their own.
var named = map[byte]Unit{
	'&': {"&amp;"}, '<': {"&lt;"}, '>': {"&gt;"},
	'"': {"&quot;", `\"`}, '\'': {"&apos;", `\'`},
	'\\': {`\\`}, '/': {`\/`}, '\t': {`\t`},
	' ': {"+"}, // in a query, application/x-www-form-urlencoded
}

func spellByte(c byte) Unit {
	u := Unit{string([]byte{c})}
	for _, hex := range mixedCases(fmt.Sprintf("%02x", c)) {
		u = append(u, "%"+hex, `\u00`+hex, `\x`+hex, "&#x"+hex+";", "&#X"+hex+";")
	}
	u = append(u, "&#"+strconv.Itoa(int(c))+";")
	if c < 100 {
		u = append(u, fmt.Sprintf("&#%03d;", c)) // PHP writes &#039;
	}
	return append(u, named[c]...)
}

func spellRune(r rune) Unit {
	raw := string(r)
	u := Unit{raw, "&#" + strconv.Itoa(int(r)) + ";"}
	var percent, json strings.Builder
	for i := range len(raw) {
		fmt.Fprintf(&percent, "%%%02x", raw[i])
	}
	for _, unit := range utf16Units(r) {
		fmt.Fprintf(&json, `\u%04x`, unit)
	}
	u = append(u, bothCases(percent.String())...)
	u = append(u, json.String(), strings.ReplaceAll(strings.ToUpper(json.String()), "U", "u"))
	for _, hex := range bothCases(strconv.FormatInt(int64(r), 16)) {
		u = append(u, "&#x"+hex+";")
	}
	return u
}

func bothCases(hex string) []string {
	lower, upper := strings.ToLower(hex), strings.ToUpper(hex)
	if lower == upper {
		return []string{lower}
	}
	return []string{lower, upper}
}

// mixedCases gives two hexadecimal digits in every mixture of cases.
func mixedCases(hex string) []string {
	var all []string
	for _, high := range bothCases(hex[:1]) {
		for _, low := range bothCases(hex[1:]) {
			all = append(all, high+low)
		}
	}
	return all
}

func utf16Units(r rune) []uint16 {
	if r < 0x10000 {
		return []uint16{uint16(r)}
	}
	r -= 0x10000
	return []uint16{0xd800 + uint16(r>>10), 0xdc00 + uint16(r&0x3ff)}
}
