package sidecar

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sallyport/control/api"
)

const signingScope = "/far-1/s3/aws4_request"

// signingKey is the key of a day of the credential "two".
func signingKey(date string) []byte {
	key := []byte("AWS4" + "secret-of-two")
	for _, text := range strings.Split(date+signingScope, "/") {
		key = hmacOf(key, text)
	}
	return key
}

func hmacOf(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func signingKeys() *api.SigV4 {
	keys := &api.SigV4{AccessKeyID: "AKIATWO", Scopes: []api.SigV4Scope{{Region: "far-1", Service: "s3"}}}
	for _, day := range []time.Time{time.Now(), time.Now().Add(24 * time.Hour)} {
		date := day.UTC().Format(api.SigV4Date)
		keys.Scopes[0].Days = append(keys.Scopes[0].Days, api.SigV4Day{Date: date, Key: signingKey(date)})
	}
	return keys
}

// signerOf is the credential whose signature an arrived request bears, as a server
// reckons that: over what arrived. It says so if the signature is another's.
func signerOf(r *http.Request) string {
	authorization := r.Header.Get("Authorization")
	at := r.Header.Get("X-Amz-Date")
	rest, signed := strings.CutPrefix(authorization, "AWS4-HMAC-SHA256 Credential=AKIATWO/")
	if !signed || len(at) < 8 {
		return ""
	}
	_, fields, _ := strings.Cut(rest, "SignedHeaders=")
	fields, signature, _ := strings.Cut(fields, ", Signature=")
	path, query, _ := strings.Cut(r.RequestURI, "?")
	encode := func(text string) string {
		plain, err := url.PathUnescape(text)
		if err != nil {
			return "not encoded"
		}
		return strings.ReplaceAll(url.QueryEscape(plain), "+", "%20")
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i] = encode(s)
	}
	if name, value, found := strings.Cut(query, "="); found { // the test asks with one parameter at most
		query = encode(name) + "=" + encode(value)
	}
	canonical := r.Method + "\n" + strings.Join(segments, "/") + "\n" + query + "\n"
	for _, name := range strings.Split(fields, ";") {
		value := strings.Join(r.Header.Values(name), ",")
		if name == "host" {
			value = r.Host
		}
		canonical += name + ":" + strings.TrimSpace(value) + "\n"
	}
	canonical += "\n" + fields + "\n" + r.Header.Get("X-Amz-Content-Sha256")
	sum := sha256.Sum256([]byte(canonical))
	want := hmacOf(signingKey(at[:8]), "AWS4-HMAC-SHA256\n"+at+"\n"+at[:8]+signingScope+"\n"+hex.EncodeToString(sum[:]))
	if signature != hex.EncodeToString(want) {
		return "nobody: the signature is of another request"
	}
	return "two"
}
