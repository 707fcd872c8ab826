package inject

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"sallyport/control/api"
)

const testSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

var (
	sigv4Rules = []*api.Rule{{Place: &api.Rule_Sigv4{Sigv4: &api.Rule_SigV4{}}}}
	signedAt   = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
)

// derived is the day's key, straight from AWS's description.
func derived(secret, date, region, service string) []byte {
	key := []byte("AWS4" + secret)
	for _, text := range []string{date, region, service, "aws4_request"} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		key = mac.Sum(nil)
	}
	return key
}

func keysFor(secret string, at time.Time, scopes ...api.SigV4Scope) *api.SigV4 {
	keys := &api.SigV4{AccessKeyID: "AKIDEXAMPLE", Scopes: scopes}
	for i := range keys.Scopes {
		s := &keys.Scopes[i]
		date := at.UTC().Format(api.SigV4Date)
		s.Days = []api.SigV4Day{{Date: date, Key: derived(secret, date, s.Region, s.Service)}}
	}
	return keys
}

// signWith sends a request through all that is done with it here.
func signWith(r *http.Request, keys *api.SigV4, at time.Time) error {
	token, err := keys.Marshal()
	if err != nil {
		return err
	}
	m := api.Material{Token: token}
	signing, err := NewSigning(sigv4Rules, m)
	if err != nil {
		return err
	}
	signer := signing.Begin(r, NewBudget(64<<20))
	defer signer.Release()
	Clear(r, sigv4Rules)
	if err := Apply(r, sigv4Rules, m); err != nil {
		return err
	}
	_, err = signer.Sign(r, at)
	return err
}

func request(t testing.TB, method, target, body string, fields ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body == "" {
		r.Body = nil
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ":")
		r.Header.Add(name, strings.TrimPrefix(value, " "))
	}
	return r
}

// What AWS has published: of the general test suite, and of S3's manual.
func TestSigV4Published(t *testing.T) {
	general := keysFor(testSecret, signedAt, api.SigV4Scope{Region: "us-east-1", Service: "service"})
	s3At := time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	s3 := keysFor("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", s3At, api.SigV4Scope{Region: "us-east-1", Service: "s3"})
	for _, tt := range []struct {
		name, method, target, body string
		fields                     []string
		keys                       *api.SigV4
		at                         time.Time
		want                       string
	}{
		{"get-vanilla", "GET", "https://example.amazonaws.com/", "", nil, general, signedAt, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"get-vanilla-query-order-key-case", "GET", "https://example.amazonaws.com/?Param2=value2&Param1=value1", "", nil, general, signedAt, "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		{"post-x-www-form-urlencoded", "POST", "https://example.amazonaws.com/", "Param1=value1", []string{"Content-Type: application/x-www-form-urlencoded"}, general, signedAt, "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
		{"get-slash", "GET", "https://example.amazonaws.com//", "", nil, general, signedAt, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"get-relative", "GET", "https://example.amazonaws.com/example/..", "", nil, general, signedAt, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"S3: get an object", "GET", "https://examplebucket.s3.amazonaws.com/test.txt", "", []string{"Range: bytes=0-9"}, s3, s3At, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
		{"S3: get a bucket's lifecycle", "GET", "https://examplebucket.s3.amazonaws.com/?lifecycle", "", nil, s3, s3At, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
		{"S3: list objects", "GET", "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J", "", nil, s3, s3At, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
	} {
		r := request(t, tt.method, tt.target, tt.body, tt.fields...)
		if err := signWith(r, tt.keys, tt.at); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		} else if _, got, _ := strings.Cut(r.Header.Get("Authorization"), "Signature="); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, r.Header.Get("Authorization"), tt.want)
		}
	}
}

// bySDK signs as AWS's own library does.
func bySDK(r *http.Request, secret, hash, service string, at time.Time) error {
	credentials := aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: secret}
	return v4.NewSigner().SignHTTP(context.Background(), credentials, r, hash, service, "eu-west-1", at,
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = service == "s3" })
}

// AWS's library with a dummy key signs a request; what becomes of that here is what
// it would have made of it with the key.
func TestSigV4LikeTheSDK(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 4000 {
		service := []string{"s3", "sqs", "execute-api"}[random.IntN(3)]
		at := signedAt.Add(time.Duration(random.Int64N(int64(1000 * 24 * time.Hour))))
		make := randomRequest(random, service)
		body := make().Body
		hash := v4EmptySHA256
		if body != nil {
			text, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(text)
			hash = hex.EncodeToString(sum[:])
		}
		want, got := make(), make()
		if service == "s3" { // else no SDK names the hash
			want.Header.Set(payloadField, hash)
			got.Header.Set(payloadField, hash)
		}
		want.ContentLength = 0 // else it is signed
		if err := errors.Join(bySDK(want, testSecret, hash, service, at), bySDK(got, "dummy", hash, service, at.Add(-time.Hour))); err != nil {
			t.Fatal(err)
		}
		keys := keysFor(testSecret, at, api.SigV4Scope{Region: "eu-west-1", Service: service}, api.SigV4Scope{Region: "eu-west-1", Service: "other"})
		if err := signWith(got, keys, at); err != nil {
			t.Fatalf("%d: %s: %v", n, got.URL, err)
		}
		if w, g := want.Header.Get("Authorization"), got.Header.Get("Authorization"); w != g {
			t.Fatalf("%d: %s %s\n%v\nthe SDK's %s\nours      %s", n, got.Method, got.URL, got.Header, w, g)
		}
	}
}

// randomRequest gives what makes one request over and over.
func randomRequest(random *rand.Rand, service string) func() *http.Request {
	pick := func(all ...string) string { return all[random.IntN(len(all))] }
	text := func(most int) string {
		var b strings.Builder
		for range random.IntN(most) {
			b.WriteString(pick("a", "B", "0", "-", ".", "_", "~", " ", "!", "*", "(", ":", "@", ",", "=", "+", "%", "$"))
		}
		return b.String()
	}
	path := ""
	for range 1 + random.IntN(3) {
		segment := "x" + escape([]byte(text(8)), "")
		path += "/" + segment
	}
	if random.IntN(3) == 0 {
		path += "/"
	}
	query := url.Values{}
	for range random.IntN(4) {
		query.Add("k"+text(3), text(8))
	}
	header := http.Header{}
	for range random.IntN(4) {
		header.Add(pick("X-Amz-Target", "X-Amz-Meta-A", "X-Amz-Meta-B", "Content-Type"), strings.TrimSpace("v"+text(6)+pick("", "  ", " ")+text(3)))
	}
	method, body := pick("GET", "PUT", "POST", "DELETE"), ""
	if method == "PUT" || method == "POST" {
		body = text(200)
	}
	host := pick(service+".eu-west-1.amazonaws.com", "a-bucket.s3.eu-west-1.amazonaws.com", "storage.example:9000")
	return func() *http.Request {
		r, err := http.NewRequest(method, "https://"+host+path+"?"+strings.ReplaceAll(query.Encode(), "+", "%20"), nil)
		if err != nil {
			panic(err)
		}
		r.Header = header.Clone()
		if body != "" {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		}
		return r
	}
}

// What a client says of its own can't move the signature anywhere.
func TestSigV4TakesNothingOfTheClients(t *testing.T) {
	only := api.SigV4Scope{Hosts: []string{"sqs.eu-west-1.amazonaws.com"}, Region: "eu-west-1", Service: "sqs"}
	plain := request(t, "GET", "https://sqs.eu-west-1.amazonaws.com/q?a=b", "")
	if err := signWith(plain, keysFor(testSecret, signedAt, only), signedAt); err != nil {
		t.Fatal(err)
	}
	own := "AWS4-HMAC-SHA256 Credential=AKIDOTHER/20200101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=00"
	for _, fields := range [][]string{
		{"Authorization: " + own},
		{"X-Amz-Date: 20200101T000000Z"},
		{"X_Amz_Date: 20200101T000000Z", "x.amz.date: 1"},
		{"X-Amz-Security-Token: mine"},
		{"X-Amz-S3session-Token: mine"},
		{"X-Amz-Region-Set: *"},
		{"X-Amzn-Authorization: " + own},
	} {
		r := request(t, "GET", "https://sqs.eu-west-1.amazonaws.com/q?a=b", "", fields...)
		if err := signWith(r, keysFor(testSecret, signedAt, only), signedAt); err != nil {
			t.Errorf("%v: %v", fields, err)
		} else if fmt.Sprint(r.Header) != fmt.Sprint(plain.Header) {
			t.Errorf("%v: sent %v, want %v", fields, r.Header, plain.Header)
		}
	}
	for _, query := range []string{
		"a=b&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=K%2F20200101%2Fus-east-1%2Fiam%2Faws4_request&X-Amz-Date=20200101T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=00",
		"a=b&x-amz-signature=0&X-Amz-Security-Token=t",
		"a=b&X%2DAmz%2DSignature=0&AWSAccessKeyId=1&Signature=2",
	} {
		r := request(t, "GET", "https://sqs.eu-west-1.amazonaws.com/q?"+query, "")
		if err := signWith(r, keysFor(testSecret, signedAt, only), signedAt); err != nil {
			t.Errorf("%s: %v", query, err)
		} else if r.URL.RawQuery != "a=b" || r.Header.Get("Authorization") != plain.Header.Get("Authorization") {
			t.Errorf("sent %s %v", r.URL, r.Header)
		}
	}
	r := request(t, "GET", "https://iam.amazonaws.com/", "", "Authorization: "+own)
	if err := signWith(r, keysFor(testSecret, signedAt, only), signedAt); code(err) != "sigv4_scope" || r.Header.Get("Authorization") != "" {
		t.Errorf("another host: %v", err)
	}
}

func code(err error) string {
	var unsigned *SignError
	if errors.As(err, &unsigned) {
		return unsigned.Code
	}
	return fmt.Sprint(err)
}

// Of several scopes the client's own signature chooses, and only among them.
func TestSigV4Scope(t *testing.T) {
	scopes := []api.SigV4Scope{{Region: "eu-west-1", Service: "sqs"}, {Region: "eu-west-1", Service: "sns"}}
	for claim, want := range map[string]string{
		"eu-west-1/sqs": "eu-west-1/sqs", "eu-west-1/sns": "eu-west-1/sns",
		"us-east-1/sqs": "", "eu-west-1/iam": "", "/": "", "eu-west-1/sqs/x": "",
	} {
		for _, r := range []*http.Request{
			request(t, "GET", "https://api.test/", "", "Authorization: AWS4-HMAC-SHA256 Credential=K/20150830/"+claim+"/aws4_request, SignedHeaders=host, Signature=00"),
			request(t, "GET", "https://api.test/?X-Amz-Credential="+url.QueryEscape("K/20150830/"+claim+"/aws4_request"), ""),
		} {
			err := signWith(r, keysFor(testSecret, signedAt, scopes...), signedAt)
			if want == "" {
				if code(err) != "sigv4_scope" {
					t.Errorf("%q: %v", claim, err)
				}
				continue
			}
			if err != nil || !strings.Contains(r.Header.Get("Authorization"), "Credential=AKIDEXAMPLE/20150830/"+want+"/aws4_request,") {
				t.Errorf("%q: %v %s", claim, err, r.Header.Get("Authorization"))
			}
		}
	}
}

// Over midnight the next day's key signs; without one, nothing does.
func TestSigV4Days(t *testing.T) {
	keys := keysFor(testSecret, signedAt, api.SigV4Scope{Region: "eu-west-1", Service: "sqs"})
	midnight := time.Date(2015, 8, 31, 0, 0, 0, 0, time.UTC)
	r := request(t, "GET", "https://api.test/", "")
	if err := signWith(r, keys, midnight); code(err) != "sigv4_clock" {
		t.Errorf("no key of the day: %v", err)
	}
	keys.Scopes[0].Days = append(keys.Scopes[0].Days, api.SigV4Day{Date: "20150831", Key: derived(testSecret, "20150831", "eu-west-1", "sqs")})
	for at, date := range map[time.Time]string{midnight.Add(-time.Nanosecond): "20150830", midnight: "20150831"} {
		r := request(t, "GET", "https://api.test/", "")
		if err := signWith(r, keys, at); err != nil || !strings.Contains(r.Header.Get("Authorization"), "/"+date+"/") {
			t.Errorf("%v: %v %s", at, err, r.Header.Get("Authorization"))
		}
	}
}

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

// The example of S3's manual.
func TestChunksPublished(t *testing.T) {
	key := derived("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1", "s3")
	signer := &chunkSigner{key: key, at: "20130524T000000Z", place: "20130524/us-east-1/s3/aws4_request", previous: "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"}
	body := func(signatures ...string) string {
		return "10000;chunk-signature=" + signatures[0] + "\r\n" + strings.Repeat("a", 65536) + "\r\n" +
			"400;chunk-signature=" + signatures[1] + "\r\n" + strings.Repeat("a", 1024) + "\r\n" +
			"0;chunk-signature=" + signatures[2] + "\r\n\r\n"
	}
	dummy := strings.Repeat("0", 64)
	c := newRechunker(io.NopCloser(strings.NewReader(body(dummy, dummy, dummy))), signer, false, &loan{budget: NewBudget(1 << 20)})
	got, err := io.ReadAll(c)
	want := body("ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648", "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9")
	if err != nil || string(got) != want {
		t.Errorf("%v: %q", err, bytes.ReplaceAll(got, []byte("aaaa"), nil))
	}
}

func rechunk(body string, trailer bool, wrap func(io.Reader) io.Reader) (string, error) {
	signer := &chunkSigner{key: []byte("key"), at: "20130524T000000Z", place: "scope", previous: "seed"}
	got, err := io.ReadAll(newRechunker(io.NopCloser(wrap(strings.NewReader(body))), signer, trailer, &loan{budget: NewBudget(4 << 20)}))
	return string(got), err
}

// Nothing that two readers could take for different chunks goes out to its end.
func TestChunksRefused(t *testing.T) {
	const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
	line := func(size string) string { return size + ";chunk-signature=" + zeros + "\r\n" }
	good := line("3") + "abc\r\n" + line("0") + "\r\n"
	trailing := line("3") + "abc\r\n" + line("0") + "x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:" + zeros + "\r\n\r\n"
	for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader} {
		for _, tt := range []struct {
			body    string
			trailer bool
		}{{good, false}, {trailing, true}} {
			got, err := rechunk(tt.body, tt.trailer, wrap)
			if err != nil || len(got) != len(tt.body) || strings.Contains(got, zeros) || strings.Contains(got, ": ") {
				t.Errorf("%q: %v", got, err)
			}
		}
		for name, body := range map[string]string{
			"more after it":            good + "x",
			"another after it":         good + good,
			"cut in a line":            good[:10],
			"cut in a chunk":           good[:len(line("3"))+1],
			"cut before its last":      line("3") + "abc\r\n",
			"cut at its end":           good[:len(good)-1],
			"empty":                    "",
			"no signature":             "3\r\nabc\r\n0\r\n\r\n",
			"a short signature":        "3;chunk-signature=00\r\nabc\r\n" + line("0") + "\r\n",
			"another extension":        "3;a=b;chunk-signature=" + zeros + "\r\nabc\r\n" + line("0") + "\r\n",
			"a longer chunk":           line("3") + "abcd\r\n" + line("0") + "\r\n",
			"a shorter chunk":          line("3") + "ab\r\n" + line("0") + "\r\n",
			"a sign":                   line("+3") + "abc\r\n" + line("0") + "\r\n",
			"0x":                       line("0x3") + "abc\r\n" + line("0") + "\r\n",
			"a space":                  line(" 3") + "abc\r\n" + line("0") + "\r\n",
			"a long number":            line("000000003") + "abc\r\n" + line("0") + "\r\n",
			"bare LF":                  strings.ReplaceAll(good, "\r\n", "\n"),
			"CR in a line":             "3;chunk-signature=" + zeros[1:] + "\r\r\nabc\r\n" + line("0") + "\r\n",
			"a huge chunk":             line("fffffff0") + "abc\r\n",
			"trailers without a place": trailing,
		} {
			got, err := rechunk(body, false, wrap)
			if c := code(err); c != "malformed_chunks" && c != "body_too_long_to_sign" || strings.HasSuffix(got, "\r\n\r\n") {
				t.Errorf("%s: %q: %v", name, got, err)
			}
		}
		for name, body := range map[string]string{
			"no trailers":       good,
			"unsigned trailers": line("0") + "a:b\r\n\r\n",
			"more after them":   trailing + "x",
			"more fields after": line("0") + "x-amz-trailer-signature:" + zeros + "\r\na:b\r\n\r\n",
			"many":              line("0") + strings.Repeat("a:b\r\n", 100) + "x-amz-trailer-signature:" + zeros + "\r\n\r\n",
		} {
			if got, err := rechunk(body, true, wrap); code(err) != "malformed_chunks" || strings.HasSuffix(got, "\r\n\r\n") {
				t.Errorf("%s: %q: %v", name, got, err)
			}
		}
	}
}

// Whatever a client sends in chunks, what goes out to its end is the same chunks, of
// the same length, with signatures of ours.
func FuzzChunks(f *testing.F) {
	const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
	f.Add("3;chunk-signature="+zeros+"\r\nabc\r\n0;chunk-signature="+zeros+"\r\n\r\n", false)
	f.Add("0;chunk-signature="+zeros+"\r\na:b\r\nx-amz-trailer-signature:"+zeros+"\r\n\r\n", true)
	f.Fuzz(func(t *testing.T, body string, trailer bool) {
		got, err := rechunk(body, trailer, func(r io.Reader) io.Reader { return r })
		if err != nil {
			return
		}
		if len(got) != len(body) {
			t.Fatalf("%q became %q", body, got)
		}
		again, err := rechunk(got, trailer, iotest.OneByteReader)
		if err != nil || again != got {
			t.Fatalf("%q is not what is read of it: %q, %v", got, again, err)
		}
	})
}

// The query that is signed is the one that is sent, and every reader takes it for
// the same.
func TestSigV4Query(t *testing.T) {
	for raw, want := range map[string]string{
		"a+b=c+d":          "a%20b=c%20d",
		"b=2&a=1&a=0":      "a=0&a=1&b=2",
		"a":                "a=",
		"&&a=1&":           "a=1",
		"a=b=c":            "a=b%3Dc",
		"a=%c3%a9&A=1":     "A=1&a=%C3%A9",
		"a=1;b=2":          "a=1%3Bb%3D2",
		"%7E=~&b=!'()*":    "b=%21%27%28%29%2A&~=~",
		"a%20=1&a-=2&aa=3": "a%20=1&a-=2&aa=3",
	} {
		r := request(t, "GET", "https://api.test/?"+raw, "")
		if err := plainQuery(r); err != nil {
			t.Fatal(err)
		}
		if got, err := canonicalQuery(r.URL.RawQuery); err != nil || got != want {
			t.Errorf("%s: %s %v", raw, got, err)
		}
		if strings.Contains(r.URL.RawQuery, "+") {
			t.Errorf("%s is sent as %s", raw, r.URL.RawQuery)
		}
	}
	for _, raw := range []string{"a=%zz", "%=1", "a=%a"} {
		r := request(t, "GET", "https://api.test/", "")
		r.URL.RawQuery = raw
		if err := signWith(r, keysFor(testSecret, signedAt, api.SigV4Scope{Region: "r", Service: "s3"}), signedAt); code(err) != "bad_target" {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

// A request as it is read from the wire has the signature of the one that was signed.
func TestSigV4OnTheWire(t *testing.T) {
	keys := keysFor(testSecret, signedAt, api.SigV4Scope{Region: "eu-west-1", Service: "s3"})
	r := request(t, "PUT", "https://api.test:9000/b/a%2Fb%20c//d?x=y", "body", "X-Amz-Meta-A:  one   two ", "x-amz-meta-a: three", "Content-Type: text/plain")
	if err := signWith(r, keys, signedAt); err != nil {
		t.Fatal(err)
	}
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatal(err)
	}
	canonical, signed, err := canonicalRequest(got, v4Unsigned, true)
	if err != nil || signed != "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-meta-a" {
		t.Fatal(err, signed)
	}
	sum := sha256.Sum256([]byte(canonical))
	want := v4Sign(derived(testSecret, "20150830", "eu-west-1", "s3"), "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/eu-west-1/s3/aws4_request\n"+hex.EncodeToString(sum[:]))
	if !strings.HasSuffix(got.Header.Get("Authorization"), "Signature="+want) {
		t.Errorf("%s: want %s of\n%s", got.Header.Get("Authorization"), want, canonical)
	}
}
