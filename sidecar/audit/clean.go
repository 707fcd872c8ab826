package audit

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"sallyport/control/api"
)

const (
	maxPath  = 1024 // bytes
	maxField = 256  // bytes; longer than any host name
)

// clean makes an event storable, whatever the agent wrote: invalid UTF-8 can't
// be encoded, NUL can't be stored, and control characters would forge lines of
// a log. One such event would else hold up all that come after it.
func clean(e *api.Event) {
	e.Path = cleanText(e.Path, maxPath)
	for _, field := range []*string{
		&e.RequestId, &e.Host, &e.Method, &e.Decision, &e.Reason, &e.CredentialId, &e.LeaseId, &e.Protocol,
	} {
		*field = cleanText(*field, maxField)
	}
}

// cleanText replaces what can't be shown and cuts what is beyond most bytes.
func cleanText(s string, most int) string {
	if len(s) <= most && plain(s) {
		return s
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsPrint(r) && !unicode.IsSpace(r) {
			return utf8.RuneError
		}
		return r
	}, s[:min(len(s), most+utf8.UTFMax)])
	if len(s) <= most {
		return s
	}
	const ellipsis = "…"
	end := most - len(ellipsis)
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}

// plain reports whether s is of printable ASCII alone, as nearly every text is.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
