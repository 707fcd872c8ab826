// Package capture takes new secrets out of what a service answers: it finds them
// where a rule says that they stand, and puts something else there. It is strict:
// an answer that is not as the rule expects is not passed on at all.
package capture

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sallyport/control/api"
)

// MaxBody bounds the body of an answer that holds a new secret, in bytes.
const MaxBody = 1 << 20

// Stripped stands where a secret was taken out.
const Stripped = "[stripped]"

// UnreadableError is an answer in which a secret could be overlooked. Its text has
// nothing of the answer.
type UnreadableError struct{ Why string }

func (e *UnreadableError) Error() string { return e.Why }

func unreadable(format string, args ...any) error {
	return &UnreadableError{fmt.Sprintf(format, args...)}
}

// Secret is one that was found. Until Write it still stands in the answer.
type Secret struct {
	Place uint32 // index in the rule's places
	Strip bool   // it is taken out, and not stored
	Value []byte // nil for what is no text, which is taken out whole
	With  string // what stands in its place after Write

	start, end int    // in the body
	field      *field // of the head; nil: in the body
}

// Bare gives the secret as it may be said without what a field has around it: the
// scheme before it, quotation marks (RFC 6265 section 4.1.1) and escapes.
func (s *Secret) Bare() [][]byte {
	if s.field == nil {
		return nil
	}
	var texts [][]byte
	text := s.Value[bytes.LastIndexByte(s.Value, ' ')+1:]
	for _, text := range [][]byte{text, bytes.Trim(text, `"`)} {
		texts = append(texts, bytes.Clone(text))
		if plain, err := url.QueryUnescape(string(text)); err == nil {
			texts = append(texts, []byte(plain))
		}
		if plain, err := url.PathUnescape(string(text)); err == nil {
			texts = append(texts, []byte(plain))
		}
	}
	slices.SortFunc(texts, bytes.Compare)
	return slices.CompactFunc(texts, bytes.Equal)
}

// field is one value of a header field, and where in it the secret stands.
type field struct {
	value      *string
	start, end int
}

// Answer is what a service answered to a request that makes new secrets.
type Answer struct {
	Secrets []*Secret
	TTL     time.Duration // as the service says; 0: it does not

	response *http.Response
	body     []byte // nil: not looked at
}

// Read looks for the secrets of a rule. If it fails, nothing of the response may be
// passed on.
func Read(response *http.Response, rule *api.Mint) (*Answer, error) {
	a := &Answer{response: response}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return nil, unreadable("the connection changed its protocol")
	}
	found := make([]bool, len(rule.GetPlaces()))
	pointers := make(map[string]uint32)
	for i, place := range rule.GetPlaces() {
		strip := rule.GetAction() != api.MintAction_MINT_ACTION_CAPTURE || place.GetStrip()
		switch p := place.GetPlace().(type) {
		case *api.MintPlace_Pointer:
			pointers[p.Pointer] = uint32(i)
		case *api.MintPlace_Cookie:
			found[i] = a.cookies(p.Cookie, uint32(i), strip)
		case *api.MintPlace_Header:
			found[i] = a.headers(p.Header, uint32(i), strip)
		}
	}
	whole, err := a.document(rule, pointers, found)
	if err != nil {
		a.Wipe()
		return nil, err
	}
	for i, place := range rule.GetPlaces() {
		_, inBody := place.GetPlace().(*api.MintPlace_Pointer)
		if !found[i] && !place.GetOptional() && response.StatusCode < http.StatusBadRequest && (!inBody || whole) {
			a.Wipe()
			return nil, unreadable("there is no %s in it", describe(place))
		}
	}
	if len(a.Secrets) > mostSecrets {
		a.Wipe()
		return nil, unreadable("there are more than %d secrets in it", mostSecrets)
	}
	for _, s := range a.Secrets {
		if err := s.check(); err != nil {
			a.Wipe()
			return nil, err
		}
	}
	return a, nil
}

func describe(p *api.MintPlace) string {
	switch p := p.GetPlace().(type) {
	case *api.MintPlace_Pointer:
		return "json:" + p.Pointer
	case *api.MintPlace_Cookie:
		return "cookie:" + p.Cookie
	case *api.MintPlace_Header:
		return "header:" + p.Header
	}
	return "place"
}

const (
	// leastSecret is the shortest that can be told from other text.
	leastSecret = 8
	// mostSecret is the longest that is stored, in bytes, and mostSecrets how many one
	// answer may have: the answer is searched for each, which takes a thousand times
	// its length in memory.
	mostSecret  = 16 << 10
	mostSecrets = 16
)

// check refuses to store what could not be injected or masked.
func (s *Secret) check() error {
	switch {
	case len(s.Value) > mostSecret:
		return unreadable("the secret in it is longer than %d bytes", mostSecret)
	case s.Strip:
		return nil
	case len(s.Value) < leastSecret:
		return unreadable("the secret in it is no text of at least %d bytes", leastSecret)
	case bytes.ContainsFunc(s.Value, func(c rune) bool { return c < ' ' || c == 0x7f || c == utf8.RuneError }):
		return unreadable("the secret in it has characters that no request can carry")
	}
	return nil
}

// document looks through a JSON body. It reports whether there is one.
func (a *Answer) document(rule *api.Mint, pointers map[string]uint32, found []bool) (bool, error) {
	r := a.response
	if len(pointers) == 0 || !hasBody(r) {
		return false, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	switch {
	case err != nil:
		return false, unreadable("it broke off")
	case len(body) == 0:
		a.body = body
		return false, nil
	}
	a.body = body
	mediaType, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := parameters["charset"]
	switch {
	case len(body) > MaxBody:
		return false, unreadable("it is longer than %d bytes", MaxBody)
	case err != nil || mediaType != "application/json" && !strings.HasSuffix(mediaType, "+json") || len(r.Header.Values("Content-Type")) != 1:
		return false, unreadable("it is not JSON (status %d)", r.StatusCode)
	case charset != "" && !strings.EqualFold(charset, "utf-8"), !utf8.Valid(body):
		return false, unreadable("it is not in UTF-8")
	}
	wanted := slices.AppendSeq([]string{rule.GetTtlPointer()}, maps.Keys(pointers))
	err = walk(body, wanted, func(v value) {
		if v.pointer == rule.GetTtlPointer() {
			a.TTL = seconds(v.text)
		}
		i, wanted := pointers[v.pointer]
		if !wanted || v.null {
			return
		}
		found[i] = true
		place := rule.GetPlaces()[i]
		s := &Secret{Place: i, Strip: rule.GetAction() != api.MintAction_MINT_ACTION_CAPTURE || place.GetStrip(), start: v.start, end: v.end}
		if v.isText {
			s.Value = []byte(v.text)
		}
		a.Secrets = append(a.Secrets, s)
	})
	if err != nil {
		return false, err
	}
	return true, a.order()
}

// order puts the secrets in the order of their beginnings.
func (a *Answer) order() error {
	slices.SortStableFunc(a.Secrets, func(x, y *Secret) int { return x.start - y.start })
	at := 0
	for _, s := range a.Secrets {
		if s.field != nil {
			continue
		}
		if s.start < at {
			return unreadable("one of the places is within another")
		}
		at = s.end
	}
	return nil
}

// seconds reads a lifetime (RFC 6749 section 5.1), also where it is a text.
func seconds(text string) time.Duration {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n <= 0 || n > 1e9 {
		return 0
	}
	return time.Duration(n * float64(time.Second))
}

func hasBody(r *http.Response) bool {
	head := r.Request != nil && r.Request.Method == http.MethodHead
	return !head && r.StatusCode != http.StatusNoContent && r.StatusCode != http.StatusNotModified && r.Body != nil && r.Body != http.NoBody
}

// cookies finds the cookie in Set-Cookie (RFC 6265 section 5.2). One that deletes
// it holds no secret.
func (a *Answer) cookies(name string, place uint32, strip bool) (found bool) {
	values := a.response.Header["Set-Cookie"]
	for i := range values {
		pair, attributes, _ := strings.Cut(values[i], ";")
		own, value, _ := strings.Cut(pair, "=")
		if strings.TrimSpace(own) != name {
			continue
		}
		found = true
		start := strings.IndexByte(pair, '=') + 1
		for start < len(pair) && (pair[start] == ' ' || pair[start] == '\t') {
			start++
		}
		if value = strings.TrimSpace(value); value == "" || len(value) < leastSecret && deletes(attributes) {
			continue
		}
		f := &field{value: &values[i], start: start, end: start + len(value)}
		a.Secrets = append(a.Secrets, &Secret{Place: place, Strip: strip, Value: []byte(value), field: f})
	}
	return found
}

// deletes reports whether a cookie's attributes end it at once.
func deletes(attributes string) bool {
	cookie, err := http.ParseSetCookie("x=y;" + attributes)
	return err == nil && (cookie.MaxAge < 0 || cookie.MaxAge == 0 && !cookie.Expires.IsZero() && cookie.Expires.Before(time.Now()))
}

func (a *Answer) headers(name string, place uint32, strip bool) (found bool) {
	values := a.response.Header[http.CanonicalHeaderKey(name)]
	for i := range values {
		if values[i] == "" {
			continue
		}
		found = true
		f := &field{value: &values[i], end: len(values[i])}
		a.Secrets = append(a.Secrets, &Secret{Place: place, Strip: strip, Value: []byte(values[i]), field: f})
	}
	return found
}

// Write puts what stands for each secret in its place, Stripped where that is
// nothing.
func (a *Answer) Write() {
	if a.body != nil {
		var out bytes.Buffer
		at := 0
		for _, s := range a.Secrets {
			if s.field == nil {
				out.Write(a.body[at:s.start])
				out.WriteString(strconv.Quote(s.instead()))
				at = s.end
			}
		}
		out.Write(a.body[at:])
		a.setBody(out.Bytes())
	}
	for _, s := range a.Secrets {
		if f := s.field; f != nil {
			*f.value = (*f.value)[:f.start] + s.instead() + (*f.value)[f.end:]
		}
	}
}

func (s *Secret) instead() string {
	if s.With == "" {
		return Stripped
	}
	return s.With
}

func (a *Answer) setBody(body []byte) {
	r := a.response
	original := r.Body
	r.Body = struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(body), original}
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	r.Trailer = nil // of another body
	for _, name := range []string{"Etag", "Last-Modified", "Accept-Ranges"} {
		r.Header.Del(name)
	}
	r.Header.Set("Cache-Control", "no-store")
}

// Wipe overwrites the secrets.
func (a *Answer) Wipe() {
	clear(a.body)
	for _, s := range a.Secrets {
		clear(s.Value)
	}
}
