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
