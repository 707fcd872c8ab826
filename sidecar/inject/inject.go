// Package inject applies the rules of a credential to an outgoing request: it
// clears every place where a client may have put a key of its own, then puts
// material where the rules say. One place a file.
//
// It works on requests that http.Transport will send, over HTTP/1.1 or HTTP/2,
// and leaves Header, URL and Host such that what is written is what was meant.
package inject

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"sallyport/control/api"
)

// Errors of Apply. After one the request must not be sent; it was not changed.
var (
	ErrMaterial = errors.New("the credential's secret does not fit where its rule puts it")
	ErrPath     = errors.New("the request's path could lead out of the place the credential is for")
	ErrRule     = errors.New("the credential has an inject rule this sidecar can't apply")
)

const (
	tokenSlot = "{{token}}"
	pathSlot  = "{{path}}"
)

// Clear removes every key a client may have put into the request: header
// fields that carry keys, the rules' own fields and query parameters, and user
// information in the URL. A Cookie goes only where a rule sets one, alone if the
// rule names it. What a rule
// sets only if it is absent stays.
func Clear(r *http.Request, rules []*api.Rule) {
	clearFields(r.Header, rules)
	clearFields(r.Trailer, rules)
	r.URL.User = nil
	for _, rule := range rules {
		if q := rule.GetQuery(); q != nil {
			r.URL.RawQuery = dropParameter(r.URL.RawQuery, q.GetName())
		}
		if c := rule.GetCookie(); c != nil {
			dropCookie(r.Header, c.GetName())
		}
		if rule.GetSigv4() != nil {
			clearV4(r)
		}
		if h := rule.GetHmac(); h != nil {
			clearHMAC(r, h)
		}
	}
}

// Apply puts material where the rules say, replacing what is there, and adds what
// rules set only if it is absent.
func Apply(r *http.Request, rules []*api.Rule, m api.Material) error {
	// All is rendered before anything is changed: no request is half injected.
	changes := make([]func(), 0, len(rules))
	for _, rule := range rules {
		change, err := render(r, rule, m)
		if err != nil {
			return err
		}
		changes = append(changes, change)
	}
	for _, change := range changes {
		change()
	}
	return nil
}

func render(r *http.Request, rule *api.Rule, m api.Material) (func(), error) {
	if len(m.Token) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrMaterial)
	}
	switch place := rule.GetPlace().(type) {
	case *api.Rule_Header_:
		return renderHeader(r, place.Header, m)
	case *api.Rule_Basic_:
		return renderBasic(r, m)
	case *api.Rule_Query_:
		return renderQuery(r, place.Query, m)
	case *api.Rule_Cookie_:
		return renderCookie(r, place.Cookie, m)
	case *api.Rule_Path_:
		return renderPath(r, place.Path, m)
	case *api.Rule_Sigv4, *api.Rule_Hmac:
		return func() {}, nil // a Signer's, when all the rest is done
	case *api.Rule_ClientCertificate_:
		return func() {}, nil // the connection's
	}
	return nil, fmt.Errorf("%w: it is of an unknown kind", ErrRule)
}

// Rendered gives the texts in which material appears on the wire, for redaction.
func Rendered(rules []*api.Rule, m api.Material) [][]byte {
	var texts [][]byte
	for _, rule := range rules {
		switch place := rule.GetPlace().(type) {
		case *api.Rule_Header_:
			if strings.Contains(place.Header.GetTemplate(), tokenSlot) {
				texts = append(texts, []byte(fill(place.Header.GetTemplate(), string(m.Token))))
			}
		case *api.Rule_Basic_:
			texts = append(texts, []byte(basicValue(m)))
		case *api.Rule_Cookie_:
			texts = append(texts, slices.Clone(m.Token))
		case *api.Rule_Query_:
			texts = append(texts, []byte(escape(m.Token, "")))
		case *api.Rule_Path_:
			texts = append(texts, []byte(escape(m.Token, pathSafe)))
		}
	}
	return texts
}

func fill(template, token string) string { return strings.ReplaceAll(template, tokenSlot, token) }

const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~" // RFC 3986 section 2.3

// escape percent-encodes all of text but unreserved characters and those of safe.
func escape(text []byte, safe string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range text {
		if strings.IndexByte(unreserved, c) >= 0 || strings.IndexByte(safe, c) >= 0 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}
