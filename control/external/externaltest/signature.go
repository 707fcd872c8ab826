package externaltest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// CheckSignature signs what has arrived again, as AWS does (Signature Version 4),
// and compares. It reads the body and puts it back.
func CheckSignature(r *http.Request, credentials aws.Credentials) error {
	got := r.Header.Get("Authorization")
	var scope, signed string
	for _, field := range strings.Split(strings.TrimPrefix(got, "AWS4-HMAC-SHA256 "), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Credential":
			scope = value
		case "SignedHeaders":
			signed = value
		}
	}
	parts := strings.Split(scope, "/") // key, date, region, service, aws4_request
	if len(parts) != 5 {
		return fmt.Errorf("no signature: %q", got)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	switch given := r.Header.Get("X-Amz-Content-Sha256"); given {
	case "", hash:
	case "UNSIGNED-PAYLOAD":
		hash = given
	default:
		return fmt.Errorf("the body has the hash %s, not %s", hash, given)
	}
	signedAt, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return err
	}
	again := r.Clone(r.Context())
	again.URL.Scheme, again.URL.Host = "https", r.Host
	for name := range again.Header {
		if !slices.Contains(strings.Split(signed, ";"), strings.ToLower(name)) {
			again.Header.Del(name)
		}
	}
	if !strings.Contains(";"+signed+";", ";content-length;") {
		again.ContentLength = 0 // the signer would add it
	}
	err = v4.NewSigner().SignHTTP(r.Context(), credentials, again, hash, parts[3], parts[2], signedAt,
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = parts[3] == "s3" })
	if err != nil {
		return err
	}
	signature := func(authorization string) string {
		_, s, _ := strings.Cut(authorization, "Signature=")
		return s
	}
	if want := again.Header.Get("Authorization"); signature(got) != signature(want) {
		return fmt.Errorf("have %s, want %s", got, want)
	}
	return nil
}
