package inject

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"sallyport/control/api"
)

// renderQuery replaces a query parameter and leaves every other byte of the
// query as it is: a signature may cover it, and servers read what net/url drops.
func renderQuery(r *http.Request, rule *api.Rule_Query, m api.Material) (func(), error) {
	if rule.GetName() == "" {
		return nil, fmt.Errorf("%w: its query parameter has no name", ErrRule)
	}
	parameter := escape([]byte(rule.GetName()), "") + "=" + escape(m.Token, "")
	return func() {
		query := dropParameter(r.URL.RawQuery, rule.GetName())
		if query != "" {
			query += "&"
		}
		r.URL.RawQuery = query + parameter
	}, nil
}

// dropParameter takes a parameter out of a raw query, in every spelling that a
// server may take for it, with the separator before it, or after it if it is first.
func dropParameter(query, name string) string {
	folded := foldParameter(name)
	var kept strings.Builder
	first := true
	for rest := query; ; {
		end := strings.IndexAny(rest, "&;")
		piece := rest
		if end >= 0 {
			piece = rest[:end]
		}
		dropped := isParameter(piece, folded)
		if !dropped {
			if !first {
				kept.WriteByte(query[len(query)-len(rest)-1])
			}
			kept.WriteString(piece)
			first = false
		}
		if end < 0 {
			return kept.String()
		}
		rest = rest[end+1:]
	}
}

func isParameter(piece, folded string) bool {
	key, _, _ := strings.Cut(piece, "=")
	return foldParameter(key) == folded
}

// maxDecode is how often a key may be percent-encoded over and still be known.
const maxDecode = 3

// foldParameter gives a parameter's key as the most lenient of servers reads
// it: decoded, in lower case, to the first NUL or "[", without leading spaces
// and with "_" for all that is no letter or digit.
func foldParameter(key string) string {
	for range maxDecode {
		decoded := unescape(strings.ReplaceAll(key, "+", " "))
		if decoded == key {
			break
		}
		key = decoded
	}
	if end := strings.IndexAny(key, "\x00["); end >= 0 {
		key = key[:end]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, strings.TrimLeft(key, " \t\r\n"))
}

// unescape decodes what is percent-encoded and leaves the rest, "%zz" included.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := url.PathUnescape(s[i : i+3]); err == nil {
				b.WriteString(c)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
