package inject

import (
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"

	"sallyport/control/api"
)

// renderCookie adds a cookie to those that Clear has left (RFC 6265 section 5.4).
func renderCookie(r *http.Request, rule *api.Rule_Cookie, m api.Material) (func(), error) {
	token := string(m.Token)
	switch {
	case !httpguts.ValidHeaderFieldName(rule.GetName()):
		return nil, fmt.Errorf("%w: %q is no name of a cookie", ErrRule, rule.GetName())
	case !httpguts.ValidHeaderFieldValue(token) || strings.ContainsAny(token, ";, \t"):
		return nil, fmt.Errorf("%w: the cookie %s would end early", ErrMaterial, rule.GetName())
	}
	return func() {
		pairs := append(r.Header.Values("Cookie"), rule.GetName()+"="+token)
		r.Header.Set("Cookie", strings.Join(pairs, "; "))
	}, nil
}

// dropCookie removes the cookies of that name, as servers that trim spaces and
// quotes, or take a comma for a semicolon (RFC 2965 section 3.3.4), read them.
func dropCookie(h http.Header, name string) {
	for field, values := range h {
		if !strings.EqualFold(field, "Cookie") {
			continue
		}
		var kept []string
		for _, value := range values {
			for pair := range strings.FieldsFuncSeq(value, func(c rune) bool { return c == ';' || c == ',' }) {
				own, _, _ := strings.Cut(pair, "=")
				if own = strings.Trim(own, " \t\""); !strings.EqualFold(own, name) {
					kept = append(kept, strings.TrimSpace(pair))
				}
			}
		}
		if len(kept) == 0 {
			delete(h, field)
			continue
		}
		h[field] = []string{strings.Join(kept, "; ")}
	}
}
