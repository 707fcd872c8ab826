package exchange

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"sallyport/control"
	"sallyport/control/api"
)

const exampleKey = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

func awsCredential(hosts string, settings control.Settings) control.Credential {
	return control.Credential{Auth: control.AuthSigV4, Hosts: strings.Split(hosts, " "), Settings: settings}
}

func mintAt(t *testing.T, now time.Time, c control.Credential, secret string) (*api.SigV4, Minted, error) {
	t.Helper()
	minted, err := sigV4(func() time.Time { return now }).Exchange(t.Context(), nil, c, control.Secret(secret))
	if err != nil {
		return nil, minted, err
	}
	keys, err := api.ParseSigV4(minted.Material.Token)
	if err != nil {
		t.Fatal(err)
	}
	return keys, minted, nil
}

// The example of AWS's manual ("Deriving a signing key"), and nothing of the secret.
func TestSigV4Key(t *testing.T) {
	now := time.Date(2012, 2, 15, 12, 0, 0, 0, time.UTC)
	c := awsCredential("iam.amazonaws.com", control.Settings{"access_key_id": "AKIDEXAMPLE"})
	keys, minted, err := mintAt(t, now, c, exampleKey)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(keys.Scopes[0].Days[0].Key); got != "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d" {
		t.Errorf("the key is %s", got)
	}
	if strings.Contains(string(minted.Material.Token), exampleKey) || len(keys.Scopes) != 1 || len(keys.Scopes[0].Days) != 1 || keys.AccessKeyID != "AKIDEXAMPLE" {
		t.Error("more is given away than one day's key")
	}
	if shown := fmt.Sprintf("%v %+v %#v %s %v %+v", keys, keys, *keys, minted.Material, keys.Scopes, keys.Scopes[0].Days); strings.Contains(shown, "AKID") || strings.Contains(shown, "244 120") {
		t.Errorf("printed as %s", shown)
	}
}

// There is a key for every time that a lease may see, with clocks that are apart, and
// no more days than that; material ends with its last day.
func TestSigV4Days(t *testing.T) {
	c := awsCredential("iam.amazonaws.com", control.Settings{"access_key_id": "AKIDEXAMPLE"})
	for at := time.Date(2024, 2, 28, 0, 0, 0, 0, time.UTC); at.Before(time.Date(2024, 3, 2, 0, 0, 0, 0, time.UTC)); at = at.Add(7 * time.Minute) {
		keys, minted, err := mintAt(t, at.In(time.FixedZone("far", 9*3600)), c, exampleKey)
		if err != nil {
			t.Fatal(err)
		}
		scope := &keys.Scopes[0]
		for _, off := range []time.Duration{-clocksApart, 0, time.Hour, keysAhead} {
			if scope.Key(at.Add(off)) == nil {
				t.Errorf("at %v there is no key for %v later", at, off)
			}
		}
		if len(scope.Days) > 2 || scope.Key(at.Add(-24*time.Hour)) != nil && at.Add(-clocksApart).Day() == at.Day() || scope.Key(at.Add(24*time.Hour)) != nil && at.Hour() < 22 {
			t.Errorf("at %v there are keys of %v", at, scope.Days)
		}
		if last := scope.Days[len(scope.Days)-1].Date; minted.Expiry.Add(-time.Second).Format(api.SigV4Date) != last || minted.Expiry.Format(api.SigV4Date) == last {
			t.Errorf("at %v: keys until %s, material until %v", at, last, minted.Expiry)
		}
	}
}

func TestSigV4Temporary(t *testing.T) {
	now := time.Date(2024, 2, 28, 12, 0, 0, 0, time.UTC)
	c := awsCredential("sqs.eu-west-1.amazonaws.com", nil)
	secret := `{"Version": 1, "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "` + exampleKey + `", "SessionToken": "FwoG+/=", "Expiration": "2024-02-28T12:30:00+00:00"}`
	keys, minted, err := mintAt(t, now, c, secret)
	if err != nil || keys.AccessKeyID != "ASIAEXAMPLE" || string(keys.SessionToken) != "FwoG+/=" || !minted.Expiry.Equal(now.Add(30*time.Minute)) {
		t.Errorf("%v %v %v", keys, minted.Expiry, err)
	}
	if _, _, err := mintAt(t, now.Add(time.Hour), c, secret); control.CodeOf(err) != control.CodeExchange {
		t.Errorf("after their end: %v", err)
	}
	kind := sigV4(func() time.Time { return now })
	for _, bad := range []string{
		exampleKey, "{", "{}", `{"AccessKeyId": "A b", "SecretAccessKey": "x"}`, `{"AccessKeyId": "AKIA", "SecretAccessKey": "x", "Secret": "y"}`,
		`{"AccessKeyId": "AKIA", "SecretAccessKey": "x", "SessionToken": "a\r\nb"}`, `{"AccessKeyId": "AKIA", "SecretAccessKey": "x", "Expiration": "2020-01-01T00:00:00Z"}`,
	} {
		if err := kind.CheckSecret(c, control.Secret(bad)); control.CodeOf(err) != control.CodeInvalid || strings.Contains(err.Error(), exampleKey) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestSigV4Scopes(t *testing.T) {
	for _, tt := range []struct {
		hosts, region, service, want string
	}{
		{"s3.eu-west-1.amazonaws.com *.s3.eu-west-1.amazonaws.com", "", "", "eu-west-1/s3 [s3.eu-west-1.amazonaws.com *.s3.eu-west-1.amazonaws.com]"},
		{"s3.amazonaws.com *.s3.amazonaws.com", "", "", "us-east-1/s3 [s3.amazonaws.com *.s3.amazonaws.com]"},
		{"bucket.s3-ap-southeast-2.amazonaws.com", "", "", "ap-southeast-2/s3 [bucket.s3-ap-southeast-2.amazonaws.com]"},
		{"s3.dualstack.eu-west-1.amazonaws.com", "", "", "eu-west-1/s3 [s3.dualstack.eu-west-1.amazonaws.com]"},
		{"s3-fips.us-gov-west-1.amazonaws.com", "", "", "us-gov-west-1/s3 [s3-fips.us-gov-west-1.amazonaws.com]"},
		{"dynamodb.cn-north-1.amazonaws.com.cn", "", "", "cn-north-1/dynamodb [dynamodb.cn-north-1.amazonaws.com.cn]"},
		{"bedrock-runtime.us-east-1.amazonaws.com", "", "", "us-east-1/bedrock [bedrock-runtime.us-east-1.amazonaws.com]"},
		{"api.ecr.us-east-1.amazonaws.com", "", "", "us-east-1/ecr [api.ecr.us-east-1.amazonaws.com]"},
		{"sts.amazonaws.com", "", "", "us-east-1/sts [sts.amazonaws.com]"},
		{"abc123.execute-api.eu-west-1.amazonaws.com", "", "", "eu-west-1/execute-api [abc123.execute-api.eu-west-1.amazonaws.com]"},
		{"abc.lambda-url.eu-west-1.on.aws", "", "", "eu-west-1/lambda [abc.lambda-url.eu-west-1.on.aws]"},
		{"search-x.eu-west-1.es.amazonaws.com", "", "", "eu-west-1/es [search-x.eu-west-1.es.amazonaws.com]"},
		{"*.eu-west-1.amazonaws.com", "", "", ""},
		{"*.eu-west-1.amazonaws.com", "", "sqs,sns", "eu-west-1/sns [*.eu-west-1.amazonaws.com], eu-west-1/sqs [*.eu-west-1.amazonaws.com]"},
		{"storage.example:9000", "", "", ""},
		{"storage.example:9000", "auto", "s3", "auto/s3 [storage.example:9000]"},
		{"sqs.eu-west-1.amazonaws.com sns.eu-west-1.amazonaws.com", "", "sqs,sns", "eu-west-1/sqs [sqs.eu-west-1.amazonaws.com], eu-west-1/sns [sns.eu-west-1.amazonaws.com]"},
		{"odd.eu-west-1.amazonaws.com", "", "odd-signing", "eu-west-1/odd-signing [odd.eu-west-1.amazonaws.com]"},
		{"amazonaws.com.evil.example", "", "", ""},
		{"s3.eu-west-1.amazonaws.com.evil.example", "", "", ""},
		{"storage.example", "a,b,c,d,e,f", "a,b,c,d,e,f", ""},
	} {
		settings := control.Settings{}
		for name, value := range map[string]string{"region": tt.region, "service": tt.service} {
			if value != "" {
				settings[name] = value
			}
		}
		all, err := scopes(awsCredential(tt.hosts, settings))
		var texts []string
		for _, s := range all {
			texts = append(texts, fmt.Sprintf("%s/%s %v", s.Region, s.Service, s.Hosts))
		}
		if got := strings.Join(texts, ", "); err == nil && got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s: %s, %v; want %s", tt.hosts, got, err, tt.want)
		}
	}
}

func TestHMACKey(t *testing.T) {
	kind := hmacKey()
	for _, tt := range []struct{ encoding, secret, want string }{
		{"", "plain text+key", "plain text+key"},
		{"text", "plain text+key", "plain text+key"},
		{"hex", "6162636465666768", "abcdefgh"},
		{"base64", "YWJjZGVmZ2g=", "abcdefgh"},
		{"hex", "plain text+key", ""},
		{"base64", "plain text+key", ""},
		{"base64", "YQ==", ""},
		{"", "short", ""},
	} {
		c := control.Credential{Settings: control.Settings{}}
		if tt.encoding != "" {
			c.Settings["key_encoding"] = tt.encoding
		}
		if err := kind.CheckSecret(c, control.Secret(tt.secret)); (err != nil) != (tt.want == "") {
			t.Errorf("%s %q: %v", tt.encoding, tt.secret, err)
		}
		if minted, err := kind.Exchange(t.Context(), nil, c, control.Secret(tt.secret)); tt.want != "" && (err != nil || string(minted.Material.Token) != tt.want) {
			t.Errorf("%s %q: %v", tt.encoding, tt.secret, err)
		}
	}
	for template, good := range map[string]bool{
		"{{timestamp}}.{{body}}": true, "v0:{{timestamp}}:{{body}}": true, "{{header:X-Id}}{{path}}{{query}}{{method}}{{host}}{{nonce}}{{body_sha256}}": true,
		"{{token}}": false, "{{bodi}}": false, "{{body": false, "body}}": false, "{{header:}}": false, "{{header:a b}}": false, "{{{body}}}": true, "{{{{body}}}}": false,
	} {
		if err := checkStringToSign(template); (err == nil) != good {
			t.Errorf("%s: %v", template, err)
		}
	}
	for _, name := range []string{"sha1", "md5", "", "SHA256"} {
		if checkAlgorithm(name) == nil {
			t.Errorf("the algorithm %q is taken", name)
		}
	}
}

// pair gives a certificate and its key in PEM.
func pair(t *testing.T, ends time.Time) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: ends}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func TestClientCert(t *testing.T) {
	now := time.Now()
	kind := clientCert(func() time.Time { return now })
	ends := now.Add(10 * 24 * time.Hour).Truncate(time.Second)
	certificate, key := pair(t, ends)
	other, otherKey := pair(t, ends)
	ended, endedKey := pair(t, now.Add(-time.Hour))
	long, longKey := pair(t, now.Add(soon+time.Hour))
	c := control.Credential{Auth: control.AuthClientCert}
	for name, tt := range map[string]struct {
		secret string
		good   bool
	}{
		"a pair": {certificate + key, true}, "the key first": {key + certificate, true}, "a chain": {certificate + other + key, true},
		"another's key": {certificate + otherKey, false}, "no key": {certificate, false}, "two keys": {certificate + key + otherKey, false},
		"no certificate": {key, false}, "ended": {ended + endedKey, false}, "no PEM": {"secret", false},
		"a chain in the wrong order": {other + certificate + key, false},
	} {
		if err := kind.CheckSecret(c, control.Secret(tt.secret)); (err == nil) != tt.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	minted, err := kind.Exchange(t.Context(), nil, c, control.Secret(certificate+key))
	if err != nil || string(minted.Material.Token) != certificate+key || !minted.Expiry.Equal(ends) {
		t.Errorf("%v, until %v", err, minted.Expiry)
	}
	if _, err := kind.Exchange(t.Context(), nil, c, control.Secret(ended+endedKey)); control.CodeOf(err) != control.CodeExchange {
		t.Errorf("one that has ended: %v", err)
	}
	if w := Weakness(c, control.Secret(certificate+key)); !strings.Contains(w, ends.UTC().Format(time.DateTime)) {
		t.Errorf("10 days before its end: %q", w)
	}
	if w := Weakness(c, control.Secret(long+longKey)); w != "" {
		t.Errorf("long before its end: %q", w)
	}
	c.AllowHTTP = true
	if kind.Check(c) == nil {
		t.Error("a client certificate may go over plain HTTP")
	}
}
