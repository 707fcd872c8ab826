package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
)

// maxBody bounds a request's body, in bytes: the longest secret, with every
// character escaped, and the rest.
const maxBody = 6*control.MaxSecretLength + 32<<10

// secret is a secret on its way in. It never goes out: printed or encoded, it is
// [redacted].
type secret struct{ control.Secret }

// Schema is for the OpenAPI document.
func (secret) Schema(huma.Registry) *huma.Schema {
	length := control.MaxSecretLength
	return &huma.Schema{Type: huma.TypeString, WriteOnly: true, MaxLength: &length, Description: "Never shown again."}
}

// UnmarshalJSON copies the secret and overwrites what it read: the decoder's own
// buffer, which nobody else could wipe.
func (s *secret) UnmarshalJSON(data []byte) error {
	s.Wipe()
	if len(data) < 2 || data[0] != '"' {
		return control.Errorf(control.CodeInvalid, "the secret must be a string")
	}
	text := data[1 : len(data)-1]
	defer func() {
		for i := range text {
			text[i] = 'x'
		}
	}()
	if !utf8.Valid(text) {
		return control.Errorf(control.CodeInvalid, "the secret is not UTF-8")
	}
	if bytes.IndexByte(text, '\\') < 0 {
		s.Secret = bytes.Clone(text)
		return nil
	}
	if hasLoneSurrogate(text) {
		return control.Errorf(control.CodeInvalid, "the secret has half of a surrogate pair, which is no character")
	}
	var unescaped string
	if json.Unmarshal(data, &unescaped) != nil {
		return control.Errorf(control.CodeInvalid, "the secret is not a valid JSON string")
	}
	s.Secret = control.Secret(unescaped)
	return nil
}

// escapes of a JSON string: a surrogate pair, half of one (the group), any other.
var escapes = regexp.MustCompile(`(?i)\\ud[89ab]..\\ud[c-f]..|(\\ud[89a-f]..)|\\.`)

// hasLoneSurrogate reports whether the string would not be decoded as it was
// sent: half of a pair becomes U+FFFD (RFC 8259 section 8.2).
func hasLoneSurrogate(text []byte) bool {
	return slices.ContainsFunc(escapes.FindAllSubmatchIndex(text, -1), func(found []int) bool { return found[2] >= 0 })
}

// errTooLong is that of a body of more than maxBody.
var errTooLong = newProblem(http.StatusRequestEntityTooLarge, control.CodeInvalid, "the body is longer than %d bytes", maxBody)

// firstRead is how much memory a body has to begin with, in bytes.
const firstRead = 4 << 10

// readBody reads a body, which the caller overwrites. It has as much memory as has come
// of it, not as much as may: that would be had by who sends nothing.
func readBody(body io.Reader) ([]byte, error) {
	raw := make([]byte, 0, firstRead)
	for {
		if len(raw) == cap(raw) {
			more := make([]byte, len(raw), min(4*cap(raw), maxBody+1))
			copy(more, raw)
			clear(raw)
			raw = more
		}
		n, err := body.Read(raw[len(raw):cap(raw)])
		raw = raw[:len(raw)+n]
		switch {
		case len(raw) > maxBody:
			clear(raw)
			return nil, errTooLong
		case errors.Is(err, io.EOF):
			return raw, nil
		case err != nil:
			clear(raw)
			return nil, control.Errorf(control.CodeInvalid, "the body could not be read to its end")
		}
	}
}

// decode reads a request's body strictly. Its errors never quote the body.
func decode[B any](ctx context.Context) (*B, error) {
	r := recordOf(ctx).request
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return nil, newProblem(http.StatusUnsupportedMediaType, control.CodeInvalid, "send the body as application/json")
	}
	raw, err := readBody(r.Body)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	if !bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("{")) { // null would be an object without fields
		return nil, errNoObject
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	body := new(B)
	if err := decoder.Decode(body); err != nil {
		wipe(body)
		return nil, decodeError(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		wipe(body)
		return nil, control.Errorf(control.CodeInvalid, "something follows the JSON value of the body")
	}
	return body, nil
}

// wipe overwrites the secret of a body that has one.
func wipe(body any) {
	if b, ok := body.(interface{ Wipe() }); ok {
		b.Wipe()
	}
}

// fieldName is what one of our fields could be called; anything else in its
// place may be a secret that slipped.
var fieldName = regexp.MustCompile(`^"[a-z_]{1,24}"$`)

func decodeError(err error) error {
	var wrongType *json.UnmarshalTypeError
	unknown, isUnknown := strings.CutPrefix(err.Error(), "json: unknown field ")
	switch {
	case control.CodeOf(err) != "":
		return err
	case errors.As(err, &wrongType) && wrongType.Field != "":
		return control.Errorf(control.CodeInvalid, "the field %q has the wrong type", wrongType.Field)
	case isUnknown && fieldName.MatchString(unknown):
		return control.Errorf(control.CodeInvalid, "the body has a field %s that is not known here", unknown)
	case isUnknown:
		return control.Errorf(control.CodeInvalid, "the body has a field that is not known here")
	}
	return errNoObject
}

var errNoObject = control.Errorf(control.CodeInvalid, "the body is not the JSON object that is expected")
