package inject

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"sallyport/control/api"
)

// pathSafe is what a token keeps in a path beside unreserved characters: some
// services (Telegram) don't know theirs with an encoded colon. It is a pchar
// (RFC 3986 section 3.3), and no segment but a relative reference's first minds it.
const pathSafe = ":"

// renderPath puts token and path into a template. The template is a fence: a
// path with a dot segment in it, however it is encoded, is refused, since some
// server on the way would climb over.
func renderPath(r *http.Request, rule *api.Rule_Path, m api.Material) (func(), error) {
	path, rooted := strings.CutPrefix(r.URL.EscapedPath(), "/")
	if !rooted || r.URL.Opaque != "" {
		return nil, fmt.Errorf("%w: it does not begin with /", ErrPath)
	}
	template := rule.GetTemplate()
	if !strings.HasPrefix(template, "/") || strings.Count(template, pathSlot) != 1 {
		return nil, fmt.Errorf("%w: its path needs a leading / and {{path}} once", ErrRule)
	}
	before, after, _ := strings.Cut(template, pathSlot)
	token := escape(m.Token, pathSafe)
	raw := fill(before, token) + path + fill(after, token)
	if hasDotSegment(raw) {
		return nil, fmt.Errorf("%w: it holds a segment . or .. (encoded, perhaps)", ErrPath)
	}
	plain, err := url.PathUnescape(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: its path is not percent-encoded as it should be", ErrRule)
	}
	target := *r.URL
	target.Path, target.RawPath = plain, raw
	// net/url encodes anew what it finds wrong. Then the wire would not hold raw.
	if target.EscapedPath() != raw {
		return nil, fmt.Errorf("%w: its path has a character that a path can't hold", ErrRule)
	}
	return func() { r.URL.Path, r.URL.RawPath = plain, raw }, nil
}

// hasDotSegment reports whether some server may read a segment of path as "."
// or "..": decoded, even over and over, also from UTF-8 that is too long, with
// "\" for "/", and without the parameters that Java's servers cut from a segment,
// what follows a NUL, or spaces and control characters.
func hasDotSegment(path string) bool {
	for range maxDecode + 1 {
		for segment := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
			if end := strings.IndexAny(segment, ";\x00"); end >= 0 {
				segment = segment[:end]
			}
			if segment = strings.Map(dropControl, segment); segment == "." || segment == ".." {
				return true
			}
		}
		decoded := overlong.Replace(unescape(path))
		if decoded == path {
			return false
		}
		path = decoded
	}
	return true // encoded over and over: nobody means well by that
}

func dropControl(r rune) rune {
	if r <= ' ' {
		return -1
	}
	return r
}

// overlong are the forms of ".", "/" and "\" in more bytes of UTF-8 than they
// need, which lenient decoders take for them.
var overlong = strings.NewReplacer(
	"\xc0\xae", ".", "\xe0\x80\xae", ".", "\xf0\x80\x80\xae", ".",
	"\xc0\xaf", "/", "\xe0\x80\xaf", "/", "\xf0\x80\x80\xaf", "/",
	"\xc1\x9c", "/", "\xe0\x81\x9c", "/", "\xf0\x80\x81\x9c", "/",
)
