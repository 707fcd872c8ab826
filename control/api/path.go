package api

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// PathSegments gives the decoded segments of a path as a request has it, escaped
// (RFC 3986 section 3.3); one slash at its end is as none. A path that servers
// read in more than one way is an error: with dot segments, empty segments,
// parameters, an encoded separator, an encoding within the encoding, trailing
// dots or spaces (which some file systems drop), control characters, or
// characters that Unicode has several spellings of. Whoever guessed how the
// server behind reads them would guess wrong for the next one.
func PathSegments(escaped string) ([]string, error) {
	rest, rooted := strings.CutPrefix(escaped, "/")
	switch {
	case !rooted:
		return nil, errors.New("a path begins with /")
	case strings.ContainsAny(rest, "?#"):
		return nil, errors.New("a path has no query and no fragment")
	case strings.Contains(strings.ToLower(rest), "%2f"):
		return nil, errors.New("an encoded slash, which some servers take for a slash")
	}
	path, err := url.PathUnescape(rest)
	switch {
	case err != nil:
		return nil, errors.New("a percent sign that begins no escape")
	case !utf8.ValidString(path):
		return nil, errors.New("it is not UTF-8")
	case !norm.NFKC.IsNormalString(path):
		return nil, errors.New("characters that Unicode has several spellings of; it must be in normal form KC")
	case strings.ContainsAny(path, `\;?#`):
		return nil, errors.New(`one of \ ; ? #, which servers read differently`)
	}
	path = strings.TrimSuffix(path, "/")
	if path == "" {
		if rest != "" {
			return nil, errEmptySegment
		}
		return nil, nil
	}
	segments := strings.Split(path, "/")
	for _, segment := range segments {
		if err := checkSegment(segment); err != nil {
			return nil, err
		}
	}
	return segments, nil
}

var errEmptySegment = errors.New("an empty segment (//), which some servers drop")

// checkSegment reports why a decoded segment does not name the same to everybody.
func checkSegment(segment string) error {
	switch {
	case segment == "":
		return errEmptySegment
	case segment == "." || segment == "..":
		return fmt.Errorf("the dot segment %q", segment)
	case strings.HasSuffix(segment, ".") || strings.HasSuffix(segment, " "):
		return fmt.Errorf("the segment %q ends in a dot or a space, which some servers drop", segment)
	}
	for i, c := range segment {
		if c < ' ' || c == 0x7f {
			return errors.New("a control character")
		}
		if c == '%' && isEscape(segment[i+1:]) {
			return fmt.Errorf("the segment %q is encoded twice", segment)
		}
	}
	return nil
}

// isEscape reports whether s would be taken for the rest of an escape by a
// server that decodes twice.
func isEscape(s string) bool {
	return len(s) >= 2 && (isHex(s[0]) && isHex(s[1]) || s[0]|0x20 == 'u')
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}
