// Package scan finds placeholders on their way out of the sandbox: literals
// such as "vault:stripe" that stand for a credential and must not be mistaken
// for one.
//
// A placeholder is found as plain text, with any of its characters
// percent-encoded or escaped as in JSON or HTML (match.Text has the list), and within base64, where it
// may begin anywhere. It is compared with case. Text that goes on as a name
// does is another name: with "stripe" known, "vault:stripe-eu" and
// "vault:stripe.eu" are no hit, while "vault:stripe." at the end of a sentence
// is one. Within base64 that is not looked at, and both count: there nobody
// quotes a name in passing.
package scan

import (
	"fmt"
	"io"

	"sallyport/control/api"
	"sallyport/sidecar/match"
)

// StrayError reports a placeholder found where nothing replaces it.
type StrayError struct {
	Placeholder string
}

func (e *StrayError) Error() string {
	return fmt.Sprintf("the request holds the placeholder %s in a place where no credential replaces it", e.Placeholder)
}

// Scanner looks for placeholders. It may be used by several goroutines at once.
type Scanner struct {
	set          *match.Set
	placeholders []string
}

// New makes a Scanner for the placeholders given.
func New(placeholders []string) *Scanner {
	var patterns []match.Pattern
	for id, p := range placeholders {
		text := []byte(p)
		patterns = append(patterns, match.Pattern{ID: id, Units: match.Text(text), Word: true})
		if p == "" {
			continue
		}
		for offset := range 3 {
			patterns = append(patterns, match.Pattern{ID: id, Units: match.Base64(text, offset)})
		}
	}
	return &Scanner{set: match.Compile(patterns), placeholders: placeholders}
}

// String reports the first placeholder found in text, if there is one.
func (s *Scanner) String(text string) (placeholder string, found bool) {
	if !match.Possible(s.set, text) {
		return "", false
	}
	s.set.Find(text, func(id, _, _ int) {
		if !found {
			placeholder, found = s.placeholders[id], true
		}
	})
	return placeholder, found
}

// All gives the placeholders found in text.
func (s *Scanner) All(text string) (placeholders []string) {
	if !match.Possible(s.set, text) {
		return nil
	}
	s.set.Find(text, func(id, _, _ int) { placeholders = append(placeholders, s.placeholders[id]) })
	return placeholders
}

// Mask replaces each placeholder in text by as many asterisks as it has bytes
// and says how many there were.
func (s *Scanner) Mask(text string) (masked string, count int) {
	var out []byte
	s.set.Find(text, func(_, start, end int) {
		if out == nil {
			out = []byte(text)
		}
		mask(out[start:end])
		count++
	})
	if count == 0 {
		return text, 0
	}
	return string(out), count
}

// Reader handles the placeholders in what is read from r as stray says.
// STRAY_LITERAL gives r itself; STRAY_REDACT replaces each by as many asterisks;
// anything else makes Read fail with a *StrayError before the byte that
// completes a placeholder is handed out. A placeholder after which r is silent
// for a while counts as whole.
func (s *Scanner) Reader(r io.ReadCloser, stray api.Stray) io.ReadCloser {
	if stray == api.Stray_STRAY_LITERAL || len(s.placeholders) == 0 {
		return r
	}
	return s.Search(stray).Reader(r, nil)
}

// Search is what a stream is searched by, as Reader does, where stray is not
// STRAY_LITERAL.
func (s *Scanner) Search(stray api.Stray) match.Search {
	found := func(id int, _ []byte) error { return &StrayError{Placeholder: s.placeholders[id]} }
	if stray == api.Stray_STRAY_REDACT {
		found = func(_ int, text []byte) error { mask(text); return nil }
	}
	return match.Search{Set: s.set, Found: found}
}

func mask(text []byte) {
	for i := range text {
		text[i] = '*'
	}
}
