package inject

import (
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"

	"sallyport/control/api"
)

func renderHeader(r *http.Request, rule *api.Rule_Header, m api.Material) (func(), error) {
	value := fill(rule.GetTemplate(), string(m.Token))
	switch {
	case !httpguts.ValidHeaderFieldName(rule.GetName()):
		return nil, fmt.Errorf("%w: %q is no name of a header", ErrRule, rule.GetName())
	case rule.GetOnlyIfAbsent() && strings.Contains(rule.GetTemplate(), tokenSlot):
		return nil, fmt.Errorf("%w: a client could replace the secret in the header %s", ErrRule, rule.GetName())
	case !httpguts.ValidHeaderFieldValue(value):
		return nil, fmt.Errorf("%w: the header %s would hold a control character", ErrMaterial, rule.GetName())
	}
	return func() {
		if !rule.GetOnlyIfAbsent() || !has(r.Header, rule.GetName()) {
			r.Header.Set(rule.GetName(), value)
		}
	}, nil
}

// has reports whether the request has the field, in any spelling that a server may
// take for name. net/http sends no User-Agent that is empty.
func has(h http.Header, name string) bool {
	var buf, other [64]byte
	folded := api.FoldField(buf[:0], name)
	for field, values := range h {
		if len(values) == 0 || field == "User-Agent" && values[0] == "" {
			continue
		}
		if string(api.FoldField(other[:0], field)) == string(folded) {
			return true
		}
	}
	return false
}

// clearFields removes the fields that carry keys, and those the rules set, in
// every spelling that a server may take for theirs.
func clearFields(h http.Header, rules []*api.Rule) {
	var buf [64]byte
	for name := range h {
		folded := api.FoldField(buf[:0], name)
		if api.CarriesKey(folded) || ruled(folded, rules) {
			delete(h, name)
		}
	}
}

// ruled reports whether a rule sets the field whatever the client sent.
func ruled(folded []byte, rules []*api.Rule) bool {
	var buf [64]byte
	for _, rule := range rules {
		header := rule.GetHeader()
		if header != nil && !header.GetOnlyIfAbsent() && string(api.FoldField(buf[:0], header.GetName())) == string(folded) {
			return true
		}
	}
	return false
}
