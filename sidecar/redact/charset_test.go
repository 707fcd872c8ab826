package redact

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"sallyport/control/api"
)

// An answer in a character set that nothing is found in is refused, however it is named;
// others are passed on.
func TestForeignCharsets(t *testing.T) {
	const secret = "sk_live_51H8xQ2eZvKYlo2C"
	utf32 := ""
	for _, c := range secret {
		utf32 += "\x00\x00\x00" + string(c)
	}
	for contentType, refused := range map[string]bool{
		"text/plain; charset=utf-32be":              true,
		`text/plain; Charset="UTF-32"`:              true,
		"text/plain; charset=UTF_7":                 true,
		"text/plain; charset=ISO-10646-UCS-4":       true,
		"text/plain; charset=IBM037":                true,
		"text/plain; charset=cp1047":                true,
		"text/xml; charset=x-ebcdic-koreanextended": true,
		"text/plain; charset=utf-32; broken\"":      true,
		"text/plain; charset=utf-8":                 false,
		"text/plain; charset=utf-16le":              false,
		"text/plain; charset=windows-1252":          false,
		"text/plain; charset=iso-2022-jp":           false,
		"text/plain; charset=IBM866":                false,
		"text/plain; charset=cp850":                 false,
		"text/plain; charset=no-such":               false,
		"text/plain":                                false,
		"":                                          false,
	} {
		body := "hello"
		if refused {
			body = utf32
		}
		resp := &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {contentType}}, ContentLength: int64(len(body)),
			Body: io.NopCloser(strings.NewReader(body)),
		}
		err := New(api.Material{Token: []byte(secret)}, nil).Response(resp)
		if errors.Is(err, ErrEncoding) != refused || !refused && err != nil {
			text, _ := io.ReadAll(resp.Body)
			t.Errorf("%q: %v, and passes %q on", contentType, err, text)
		}
	}
}
