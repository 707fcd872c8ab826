package inject

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"sallyport/control/api"
)

// A body is signed as it is sent: by the hash the client gave, which is checked, by
// its own, or not where the service takes that.
func TestSigV4Payload(t *testing.T) {
	hash := func(text string) string { sum := sha256.Sum256([]byte(text)); return hex.EncodeToString(sum[:]) }
	long := strings.Repeat("x", MostHeld+1)
	for _, tt := range []struct {
		name, service, scheme, claim, body string
		signed, code                       string // what is signed, or why not
		read                               string // code of reading the body
	}{
		{"S3", "s3", "https", "", "body", v4Unsigned, "", ""},
		{"S3 unsigned", "s3", "https", v4Unsigned, long, v4Unsigned, "", ""},
		{"S3 without TLS", "s3", "http", "", "body", hash("body"), "", ""},
		{"S3 unsigned without TLS", "s3", "http", v4Unsigned, "body", hash("body"), "", ""},
		{"a long one without TLS", "s3", "http", "", long, "", "body_too_long_to_sign", ""},
		{"its hash", "s3", "https", hash("body"), "body", hash("body"), "", ""},
		{"its hash, long", "sqs", "https", hash(long), long, hash(long), "", ""},
		{"another's hash", "s3", "https", hash("other"), "body", hash("other"), "", "payload_mismatch"},
		{"another's hash, empty", "s3", "https", hash("other"), "", "", "payload_mismatch", ""},
		{"no hash", "s3", "https", strings.Repeat("z", 64), "body", "", "payload_mismatch", ""},
		{"a hash in capitals", "s3", "https", strings.ToUpper(hash("body")), "body", "", "payload_mismatch", ""},
		{"SQS", "sqs", "https", "", "body", hash("body"), "", ""},
		{"SQS, long", "sqs", "https", "", long, "", "body_too_long_to_sign", ""},
		{"none", "sqs", "https", "", "", v4EmptySHA256, "", ""},
		{"unsigned trailer", "s3", "https", v4UnsignedTrailer, "0\r\n\r\n", v4UnsignedTrailer, "", ""},
		{"unsigned trailer without TLS", "s3", "http", v4UnsignedTrailer, "0\r\n\r\n", "", "payload_unsupported", ""},
		{"SigV4A", "s3", "https", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "x", "", "sigv4a_unsupported", ""},
		{"events", "transcribe", "https", "STREAMING-AWS4-HMAC-SHA256-EVENTS", "x", "", "payload_unsupported", ""},
	} {
		for _, known := range []bool{true, false} {
			r := request(t, "PUT", tt.scheme+"://api.test/key", tt.body)
			if tt.claim != "" {
				r.Header.Set(payloadField, tt.claim)
			}
			if !known && r.Body != nil {
				r.ContentLength = -1
			}
			err := signWith(r, keysFor(testSecret, signedAt, api.SigV4Scope{Region: "eu-west-1", Service: tt.service}), signedAt)
			if tt.code != "" {
				if code(err) != tt.code {
					t.Errorf("%s: %v", tt.name, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
				continue
			}
			canonical, _, err := canonicalRequest(r, tt.signed, tt.service == "s3")
			sum := sha256.Sum256([]byte(canonical))
			text := "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/eu-west-1/" + tt.service + "/aws4_request\n" + hex.EncodeToString(sum[:])
			if want := v4Sign(derived(testSecret, "20150830", "eu-west-1", tt.service), text); err != nil || !strings.HasSuffix(r.Header.Get("Authorization"), want) {
				t.Errorf("%s: not signed as %s", tt.name, tt.signed)
			}
			got, err := sent(r)
			if tt.read != "" {
				if code(err) != tt.read || len(got) >= len(tt.body) {
					t.Errorf("%s: %v after %d bytes", tt.name, err, len(got))
				}
			} else if err != nil || got != tt.body {
				t.Errorf("%s: sent %d bytes: %v", tt.name, len(got), err)
			}
		}
	}
}

func sent(r *http.Request) (string, error) {
	if r.Body == nil {
		return "", nil
	}
	text, err := io.ReadAll(r.Body)
	return string(text), err
}

// The last byte of a body goes when its hash is known to be right, however it is read.
func TestVerifiedBody(t *testing.T) {
	text := "a body of some bytes"
	sum := sha256.Sum256([]byte(text))
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"as it comes": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "end with data": iotest.DataErrReader, "halves": iotest.HalfReader,
	} {
		for _, into := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.HalfReader} {
			got, err := io.ReadAll(into(verify(io.NopCloser(wrap(strings.NewReader(text))), sum[:])))
			if err != nil || string(got) != text {
				t.Errorf("%s: %q %v", name, got, err)
			}
			for _, other := range []string{text + "!", text[:len(text)-1], strings.ToUpper(text)} {
				got, err := io.ReadAll(into(verify(io.NopCloser(wrap(strings.NewReader(other))), sum[:])))
				if code(err) != "payload_mismatch" || len(got) >= len(other) {
					t.Errorf("%s: %q: %v", name, got, err)
				}
			}
		}
	}
}

// What is held of bodies has a bound, and is given back.
func TestBudget(t *testing.T) {
	budget := NewBudget(100 << 10)
	var loans []*loan
	for n := 0; ; n++ {
		l := &loan{budget: budget}
		_, err := l.hold(request(t, "POST", "https://api.test/", strings.Repeat("x", 30<<10)))
		if n == 3 {
			if code(err) != "too_many_requests" {
				t.Errorf("the fourth: %v", err)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		loans = append(loans, l)
	}
	for _, l := range loans {
		l.giveBack()
		l.giveBack()
	}
	if left := budget.left.Load(); left != 100<<10 {
		t.Errorf("%d are left", left)
	}
}
