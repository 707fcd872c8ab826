package admin

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"sallyport/control"
)

// IfMatch is what an update is conditional on (RFC 9110 section 13.1.1).
type IfMatch struct {
	IfMatch string `header:"If-Match" maxLength:"1024" doc:"The ETag of what is to be changed, as it was last read; * to change it whatever it is"`
}

// tagged is an answer of one thing that can be changed: the ETag is what a change
// says it is a change of.
type tagged[T any] struct {
	ETag string `header:"ETag" doc:"For If-Match"`
	Body T
}

// versioned makes an answer of what can be changed; tag is that of etag.
func versioned[T any](thing T, tag string, err error) (*tagged[T], error) {
	if err != nil {
		return nil, err
	}
	return &tagged[T]{tag, thing}, nil
}

// etag is a strong entity tag of what v is as JSON.
func etag(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("admin: a resource can't be written as JSON: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:15]) + `"`
}

// required refuses an update that does not say what it is one of: of two people who
// change a thing at once, one would undo what the other did, and neither would know.
func (m IfMatch) required() error {
	if strings.TrimSpace(m.IfMatch) == "" {
		return newProblem(http.StatusPreconditionRequired, codeUnconditional,
			"say what you change: send the ETag of a GET as If-Match, or If-Match: * to change it whatever it is")
	}
	return nil
}

// check refuses the update of a thing that is not what the caller saw.
func (m IfMatch) check(current string) error {
	tags := strings.Split(m.IfMatch, ",")
	for i := range tags {
		tags[i] = strings.TrimSpace(tags[i])
	}
	if m.IfMatch == "*" || slices.Contains(tags, current) {
		return nil
	}
	return control.Errorf(control.CodeChanged, "it was changed since you read it: read it again, and send its new ETag as If-Match")
}
