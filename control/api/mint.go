package api

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MintPath is a pattern of the paths at which a service hands out new secrets: in
// a segment * is any run of characters, and ** alone at the end any number of
// segments. The zero value matches the root alone.
type MintPath struct {
	segments []string
	open     bool // any number of segments may follow
	words    []string
}

// ParseMintPath reads a pattern.
func ParseMintPath(text string) (MintPath, error) {
	segments, err := PathSegments(text)
	if err != nil {
		return MintPath{}, fmt.Errorf("the path %q: %w", text, err)
	}
	p := MintPath{segments: segments}
	if n := len(segments); n > 0 && segments[n-1] == "**" {
		p.segments, p.open = segments[:n-1], true
	}
	for _, segment := range p.segments {
		if strings.Contains(segment, "**") {
			return MintPath{}, fmt.Errorf("the path %q: ** stands alone, at the end", text)
		}
		for part := range strings.SplitSeq(segment, "*") {
			p.words = append(p.words, bare(part))
		}
	}
	return p, nil
}

// Match reports whether a path, as PathSegments gives it, is one of the pattern's.
// Broadly, capitals are as small letters, and a last segment may have an extension
// that the pattern has not: some servers take it for the format of the answer.
func (p MintPath) Match(path []string, broadly bool) bool {
	if len(path) < len(p.segments) || len(path) > len(p.segments) && !p.open {
		return false
	}
	for i, pattern := range p.segments {
		segment := path[i]
		if !broadly {
			if !glob(pattern, segment) {
				return false
			}
			continue
		}
		pattern, segment = strings.ToLower(pattern), strings.ToLower(segment)
		stem := segment
		if dot := strings.LastIndexByte(segment, '.'); dot > 0 && i == len(path)-1 {
			stem = segment[:dot]
		}
		if !glob(pattern, segment) && !glob(pattern, stem) {
			return false
		}
	}
	return true
}

// glob reports whether text is one of pattern's.
func glob(pattern, text string) bool {
	first, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == text
	}
	text, found := strings.CutPrefix(text, first)
	if !found {
		return false
	}
	for {
		part, more, again := strings.Cut(rest, "*")
		if !again {
			return strings.HasSuffix(text, part)
		}
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text, rest = text[at+len(part):], more
	}
}

// errAmbiguous is a path of which nothing can be said.
var errAmbiguous = errors.New("no reading of the path is certain")

// Could reports whether some server could take an escaped path for one of the
// pattern's, though PathSegments refuses it: however a server decodes, folds and
// drops parts of a path, the pattern's words are in it in their order.
func (p MintPath) Could(escaped string) bool {
	rest, err := wholly(escaped)
	if err != nil {
		return true
	}
	for _, word := range p.words {
		at := strings.Index(rest, word)
		if at < 0 {
			return false
		}
		rest = rest[at+len(word):]
	}
	return true
}

// wholly decodes a path as often as it can be, and leaves its letters and digits.
func wholly(escaped string) (string, error) {
	text := escaped
	for range 8 {
		decoded := unescape(text)
		if decoded == text {
			if !utf8.ValidString(text) || strings.Contains(strings.ToLower(text), "%u") {
				return "", errAmbiguous
			}
			return bare(text), nil
		}
		text = decoded
	}
	return "", errAmbiguous
}

// unescape decodes each escape that is one, and leaves the rest.
func unescape(text string) string {
	if plain, err := url.PathUnescape(text); err == nil {
		return plain
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) && isHex(text[i+1]) && isHex(text[i+2]) {
			if plain, err := url.PathUnescape(text[i : i+3]); err == nil {
				b.WriteString(plain)
				i += 2
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// bare are the letters and digits of ASCII in a text, as small letters.
func bare(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(norm.NFKC.String(text)))
}

// MayMint reports whether requests may be refused or their answers changed by m.
func (m *Mint) MayMint() bool { return m.GetAction() != MintAction_MINT_ACTION_ALLOW }

// CheckMint reports why a sidecar can't go by m, if it can't.
func CheckMint(m *Mint) error {
	switch m.GetAction() {
	case MintAction_MINT_ACTION_ALLOW, MintAction_MINT_ACTION_REFUSE:
	case MintAction_MINT_ACTION_STRIP, MintAction_MINT_ACTION_CAPTURE:
		if len(m.GetPlaces()) == 0 {
			return errors.New("it names no place")
		}
	default:
		return errors.New("its action is none that is known here")
	}
	for _, p := range m.GetPlaces() {
		if p.GetPlace() == nil {
			return errors.New("it has a place of a kind that is not known here")
		}
	}
	_, err := ParseMintPath(m.GetPath())
	return err
}
