package redact

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"sallyport/control/api"
)

const canary = `sk_live/4eC39+Hq&"Lyj<Wé=`

func material() api.Material { return api.Material{Username: "user", Token: []byte(canary)} }

func basic() []byte {
	return []byte("Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+canary)))
}

func newRedactor() *Redactor { return New(material(), [][]byte{[]byte("Bearer " + canary), basic()}) }

func percent(s, format string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, format, s[i])
	}
	return b.String()
}

// encodings are the canary as an upstream may echo it. The value says whether
// all of the text must be hidden, or if "" the part that must.
func encodings(t testing.TB) map[string]string {
	quoted, err := json.Marshal(canary)
	if err != nil {
		t.Fatal(err)
	}
	var jsonEscapes strings.Builder
	for _, r := range canary {
		fmt.Fprintf(&jsonEscapes, `\u%04X`, r)
	}
	all := map[string]string{
		"raw":               canary,
		"query":             url.QueryEscape(canary),
		"path":              url.PathEscape(canary),
		"percent upper":     percent(canary, "%%%02X"),
		"percent lower":     percent(canary, "%%%02x"),
		"json":              strings.Trim(string(quoted), `"`),
		"json slashes":      strings.ReplaceAll(strings.Trim(string(quoted), `"`), "/", `\/`),
		"json all":          jsonEscapes.String(),
		"json all lower":    strings.ReplaceAll(strings.ToLower(jsonEscapes.String()), "U", "u"),
		"html":              html.EscapeString(canary),
		"html python":       strings.NewReplacer("&", "&amp;", "<", "&lt;", `"`, "&quot;", "'", "&#x27;", "/", "&#x2F;").Replace(canary),
		"hex":               hex.EncodeToString([]byte(canary)),
		"hex upper":         strings.ToUpper(hex.EncodeToString([]byte(canary))),
		"basic":             string(basic()[len("Basic "):]),
		"basic url escaped": url.QueryEscape(string(basic()[len("Basic "):])),
	}
	return all
}

// base64s are texts that hold the canary somewhere, encoded.
func base64s() []string {
	var all []string
	for _, before := range []string{"", "x", "xy", "user:"} {
		for _, after := range []string{"", "z", "zz"} {
			for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
				all = append(all, e.EncodeToString([]byte(before+canary+after)))
			}
		}
	}
	return all
}

func response(body string) *http.Response {
	return &http.Response{
		Status: "200 OK", StatusCode: 200, Header: http.Header{}, ContentLength: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)), Request: &http.Request{Method: "GET"},
	}
}

func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
