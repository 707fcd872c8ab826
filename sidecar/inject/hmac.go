package inject

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"sallyport/control/api"
)

// hmacSigner signs one request by a template: services that sign webhooks and their
// APIs agree on HMAC (RFC 2104) and on nothing else.
type hmacSigner struct {
	rule *api.Rule_HMAC
	key  []byte
	loan loan
}

// Sign puts the signature into the request's headers.
func (s *hmacSigner) Sign(r *http.Request, now time.Time) ([]byte, error) {
	algorithm := hashOf(s.rule.GetAlgorithm())
	stamp := timestamp(s.rule.GetTimestamp(), now)
	if algorithm == nil || stamp == "" {
		return nil, fmt.Errorf("%w: its algorithm or form of time is unknown", ErrRule)
	}
	values := map[string]string{
		"method": r.Method, "path": r.URL.EscapedPath(), "query": r.URL.RawQuery, "host": r.Host,
		"timestamp": stamp, "nonce": rand.Text(),
	}
	if err := s.body(r, values); err != nil {
		return nil, err
	}
	text, err := expand(s.rule.GetStringToSign(), func(slot string) (string, error) {
		if name, found := strings.CutPrefix(slot, "header:"); found {
			return oneField(r.Header, name)
		}
		value, known := values[slot]
		if !known {
			return "", fmt.Errorf("%w: {{%s}} is nothing that can be signed", ErrRule, slot)
		}
		return value, nil
	})
	if err != nil {
		return nil, err
	}
	mac := hmac.New(algorithm, s.key)
	mac.Write([]byte(text))
	sum := mac.Sum(nil)
	values = map[string]string{
		"timestamp": stamp, "nonce": values["nonce"],
		"signature:hex": hex.EncodeToString(sum), "signature:base64": base64.StdEncoding.EncodeToString(sum),
	}
	fields := make(map[string]string)
	for _, h := range s.rule.GetHeaders() {
		value, err := expand(h.GetTemplate(), func(slot string) (string, error) {
			value, known := values[slot]
			if !known {
				return "", fmt.Errorf("%w: {{%s}} has no place in a header", ErrRule, slot)
			}
			return value, nil
		})
		if err != nil {
			return nil, err
		}
		if !httpguts.ValidHeaderFieldName(h.GetName()) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("%w: %q is no header", ErrRule, h.GetName())
		}
		fields[h.GetName()] = value
	}
	for name, value := range fields {
		r.Header.Set(name, value)
	}
	return nil, nil
}

// Release ends the use of what is held.
func (s *hmacSigner) Release() { s.loan.giveBack() }

// body adds what the template needs of the request's body.
func (s *hmacSigner) body(r *http.Request, values map[string]string) error {
	template := s.rule.GetStringToSign()
	whole, summed := strings.Contains(template, "{{body}}"), strings.Contains(template, "{{body_sha256}}")
	if !whole && !summed {
		return nil
	}
	text, err := s.loan.hold(r)
	if err != nil {
		return err
	}
	if whole {
		if err := s.loan.take(2 * int64(len(text))); err != nil { // it is copied into what is signed
			return err
		}
		values["body"] = string(text)
	}
	sum := sha256.Sum256(text)
	values["body_sha256"] = hex.EncodeToString(sum[:])
	return nil
}

// clearHMAC removes the fields that the signature goes into, in every spelling.
func clearHMAC(r *http.Request, rule *api.Rule_HMAC) {
	var buf, other [64]byte
	for _, h := range rule.GetHeaders() {
		folded := api.FoldField(buf[:0], h.GetName())
		for _, fields := range []http.Header{r.Header, r.Trailer} {
			for name := range fields {
				if string(api.FoldField(other[:0], name)) == string(folded) {
					delete(fields, name)
				}
			}
		}
	}
}

// oneField is the value of a field that is there once, or not at all. Servers do
// not agree about which of several counts.
func oneField(h http.Header, name string) (string, error) {
	values := h.Values(name)
	if len(values) > 1 {
		return "", unsigned(http.StatusBadRequest, "ambiguous_field", "the field %s is signed, and the request has it %d times", name, len(values))
	}
	if len(values) == 0 {
		return "", nil
	}
	return strings.Trim(values[0], " \t"), nil
}

func hashOf(name string) func() hash.Hash {
	switch name {
	case "sha256":
		return sha256.New
	case "sha384":
		return sha512.New384
	case "sha512":
		return sha512.New
	}
	return nil
}

// timestamp is a time as services write it; empty for a form that is not known.
func timestamp(form string, now time.Time) string {
	switch form {
	case "", "unix":
		return strconv.FormatInt(now.Unix(), 10)
	case "unix_ms":
		return strconv.FormatInt(now.UnixMilli(), 10)
	case "rfc3339":
		return now.UTC().Format(time.RFC3339)
	case "http":
		return now.UTC().Format(http.TimeFormat)
	}
	return ""
}

// expand fills the slots of a template, {{NAME}}, in one pass: nothing that is
// filled in is read as a template.
func expand(template string, slot func(string) (string, error)) (string, error) {
	var b strings.Builder
	for rest := template; ; {
		before, after, found := strings.Cut(rest, "{{")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, rest2, closed := strings.Cut(after, "}}")
		if !closed {
			return "", fmt.Errorf("%w: a {{ is not closed", ErrRule)
		}
		value, err := slot(name)
		if err != nil {
			return "", err
		}
		b.WriteString(value)
		rest = rest2
	}
}
