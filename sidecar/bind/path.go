package bind

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// segments gives the segments of a path as the client escaped it, decoded. It is
// false for a path that servers read in more than one way: with dot segments,
// empty segments, parameters, encoded separators, an encoding within the
// encoding, trailing dots or spaces, which some file systems drop, control
// characters, or characters that Unicode has several spellings of. Whoever
// guessed how the server behind reads them would guess wrong for the next one.
func segments(escaped string) ([]string, bool) {
	rest, rooted := strings.CutPrefix(escaped, "/")
	if !rooted || strings.Contains(strings.ToLower(escaped), "%2f") {
		return nil, false
	}
	path, err := url.PathUnescape(rest)
	if err != nil || !utf8.ValidString(path) || !norm.NFKC.IsNormalString(path) || strings.ContainsAny(path, `\;?#`) {
		return nil, false
	}
	path = strings.TrimSuffix(path, "/")
	if path == "" {
		return nil, rest == ""
	}
	all := strings.Split(path, "/")
	for _, segment := range all {
		if !plain(segment) {
			return nil, false
		}
	}
	return all, true
}

// plain reports whether a decoded segment names the same to everybody.
func plain(segment string) bool {
	if segment == "" || strings.HasSuffix(segment, ".") || strings.HasSuffix(segment, " ") {
		return false
	}
	for i, c := range segment {
		if c < ' ' || c == 0x7f || c == '%' && escapes(segment[i+1:]) {
			return false
		}
	}
	return true
}

// escapes reports whether s would be taken for the rest of an escape by a server
// that decodes twice.
func escapes(s string) bool {
	return len(s) >= 2 && (isHex(s[0]) && isHex(s[1]) || s[0]|0x20 == 'u')
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// under reports whether path is prefix or below it.
func under(path, prefix []string, same func(a, b string) bool) bool {
	if len(path) < len(prefix) {
		return false
	}
	for i, segment := range prefix {
		if !same(path[i], segment) {
			return false
		}
	}
	return true
}
