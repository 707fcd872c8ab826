package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"html"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// telling is how many bytes of a secret in a row give it away. The ends of what was
// masked in base64 may show a character or two.
const telling = 12

// depth is how often what was decoded is decoded again.
const depth = 4

// finds says which of some secrets a text tells, and how: decoded in every way that is
// known here, over and over. It is -1 and "" if the text tells none. It knows nothing
// of how the sidecar looks for them.
func finds(text []byte, secrets ...string) (which int, how string) {
	type finding struct {
		text []byte
		how  string
	}
	seen := map[string]bool{}
	waiting := []finding{{text, "as it is"}}
	for range depth + 1 {
		var next []finding
		for _, f := range waiting {
			for i, secret := range secrets {
				if tells(f.text, secret) {
					return i, f.how
				}
			}
			for name, decode := range decodings {
				for _, decoded := range decode(f.text) {
					if len(decoded) < telling || bytes.Equal(decoded, f.text) || seen[string(decoded)] {
						continue
					}
					seen[string(decoded)] = true
					next = append(next, finding{decoded, f.how + ", " + name})
				}
			}
		}
		waiting = next
	}
	return -1, ""
}

func tells(text []byte, secret string) bool {
	for i := 0; i+telling <= len(secret); i++ {
		if bytes.Contains(text, []byte(secret[i:i+telling])) {
			return true
		}
	}
	return false
}

var (
	percents  = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	escapes   = regexp.MustCompile(`\\+(u\{[0-9A-Fa-f]+\}|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|[0-7]{3}|[^A-Za-z0-9\\])`)
	base64Run = regexp.MustCompile(`[A-Za-z0-9+/_-]{12,}`)
	hexRun    = regexp.MustCompile(`(?:[0-9A-Fa-f]{2}[ :,-]?){12,}`)
	breaks    = regexp.MustCompile(`\\r|\\n|[\r\n\t ]+`)
)

// decodings give what a text could have meant. Those that are of the whole text give
// one; those that are of parts one for each.
var decodings = map[string]func([]byte) [][]byte{
	"percent-decoded": func(text []byte) [][]byte {
		return [][]byte{percents.ReplaceAllFunc(text, func(m []byte) []byte { return unhex(m[1:]) })}
	},
	"unescaped": func(text []byte) [][]byte {
		return [][]byte{escapes.ReplaceAllFunc(text, unescape)}
	},
	"HTML decoded":   func(text []byte) [][]byte { return [][]byte{[]byte(html.UnescapeString(string(text)))} },
	"without breaks": func(text []byte) [][]byte { return [][]byte{breaks.ReplaceAll(text, nil)} },
	"without zeros":  func(text []byte) [][]byte { return [][]byte{bytes.ReplaceAll(text, []byte{0}, nil)} },
	"unchunked":      func(text []byte) [][]byte { return [][]byte{chunkLine.ReplaceAll(text, nil)} },
	"hex decoded":    decodeHex,
	"base64 decoded": decodeBase64,
	"decompressed":   decompress,
}

var chunkLine = regexp.MustCompile(`\r\n[0-9A-Fa-f]+\r\n`)

func unhex(digits []byte) []byte {
	b, err := strconv.ParseUint(string(digits), 16, 8)
	if err != nil {
		return digits
	}
	return []byte{byte(b)}
}

func unescape(match []byte) []byte {
	m := strings.TrimLeft(string(match), `\`)
	base, digits := 16, strings.Trim(m[1:], "{}")
	switch {
	case m[0] >= '0' && m[0] <= '7':
		base, digits = 8, m
	case m[0] != 'u' && m[0] != 'x':
		return []byte(m)
	}
	code, err := strconv.ParseUint(digits, base, 21)
	if err != nil {
		return match
	}
	if code < 0x100 {
		return []byte{byte(code)}
	}
	return utf8.AppendRune(nil, rune(code))
}

func decodeHex(text []byte) (decoded [][]byte) {
	for _, run := range hexRun.FindAll(text, -1) {
		digits := bytes.Map(func(r rune) rune {
			if strings.ContainsRune(" :,-", r) {
				return -1
			}
			return r
		}, run)
		// A digit that belongs to what was before may begin the run.
		for _, d := range [][]byte{digits, digits[1:]} {
			out := make([]byte, len(d)/2)
			if _, err := hex.Decode(out, d[:len(d)/2*2]); err == nil {
				decoded = append(decoded, out)
			}
		}
	}
	return decoded
}

func decodeBase64(text []byte) (decoded [][]byte) {
	for _, run := range base64Run.FindAll(text, -1) {
		plain := bytes.ReplaceAll(bytes.ReplaceAll(run, []byte("-"), []byte("+")), []byte("_"), []byte("/"))
		for start := range 4 {
			part := plain[min(start, len(plain)):]
			if whole := len(part) / 4 * 4; len(part)-whole == 1 {
				part = part[:whole]
			}
			out := make([]byte, base64.RawStdEncoding.DecodedLen(len(part)))
			if n, err := base64.RawStdEncoding.Decode(out, part); err == nil {
				decoded = append(decoded, out[:n])
			}
		}
	}
	return decoded
}

func decompress(text []byte) (decoded [][]byte) {
	for _, c := range codings {
		if c.open == nil {
			continue
		}
		reader, err := c.open(bytes.NewReader(text))
		if err != nil {
			continue
		}
		if out, _ := io.ReadAll(io.LimitReader(reader, 1<<20)); len(out) > 0 { // cut off streams tell as well
			decoded = append(decoded, out)
		}
	}
	return decoded
}
