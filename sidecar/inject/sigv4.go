package inject

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"sallyport/control/api"
)

// AWS Signature Version 4.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
const (
	v4Algorithm       = "AWS4-HMAC-SHA256"
	v4Time            = "20060102T150405Z"
	v4Unsigned        = "UNSIGNED-PAYLOAD"
	v4Chunks          = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	v4Trailer         = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	v4UnsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	v4EmptySHA256     = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

	payloadField = "X-Amz-Content-Sha256"
)

// v4Fields are the header fields of signatures, as FoldField spells them, that
// are the sidecar's to set. Other x-amz fields say what is asked for.
var v4Fields = map[string]bool{
	"x-amz-date": true, "x-amz-security-token": true, "x-amz-content-sha256": true, "x-amz-region-set": true,
	"x-amz-algorithm": true, "x-amz-credential": true, "x-amz-signature": true, "x-amz-signedheaders": true, "x-amz-expires": true,
	"x-amz-s3session-token": true, "x-amzn-authorization": true,
}

// v4Parameters are the query parameters of presigned requests: those of Version 4,
// and of Version 2, which S3 has taken too.
var v4Parameters = []string{
	"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature",
	"X-Amz-Security-Token", "X-Amz-Content-Sha256", "X-Amz-Region-Set", "X-Amz-S3session-Token", "AWSAccessKeyId", "Signature",
}

// v4Claim is what a client's own signature says. It is a wish: it chooses among
// what the credential allows, and says how the body is to be signed.
type v4Claim struct {
	region, service string
	payload         string
}

func claimV4(r *http.Request) v4Claim {
	claim := v4Claim{payload: r.Header.Get(payloadField)}
	credential := ""
	for part := range strings.FieldsFuncSeq(r.Header.Get("Authorization"), func(c rune) bool { return c == ' ' || c == ',' }) {
		if value, found := strings.CutPrefix(part, "Credential="); found {
			credential = value
		}
	}
	if credential == "" {
		credential = r.URL.Query().Get("X-Amz-Credential")
	}
	// KEY/DATE/REGION/SERVICE/aws4_request
	if parts := strings.Split(credential, "/"); len(parts) >= 5 {
		claim.region, claim.service = parts[len(parts)-3], parts[len(parts)-2]
	}
	return claim
}

// clearV4 removes the client's own signature, in every spelling.
func clearV4(r *http.Request) {
	var buf [64]byte
	for _, fields := range []http.Header{r.Header, r.Trailer} {
		for name := range fields {
			if v4Fields[string(api.FoldField(buf[:0], name))] {
				delete(fields, name)
			}
		}
	}
	if r.URL.RawQuery == "" {
		return
	}
	for _, name := range v4Parameters {
		r.URL.RawQuery = dropParameter(r.URL.RawQuery, name)
	}
}

// v4Signer signs one request.
type v4Signer struct {
	keys  *api.SigV4
	claim v4Claim
	loan  loan
}

// scope is the one that a request to host is signed for. The client's claim
// decides where the credential allows several, and never adds one.
func (s *v4Signer) scope(r *http.Request) (*api.SigV4Scope, error) {
	var fitting []*api.SigV4Scope
	for i := range s.keys.Scopes {
		if scope := &s.keys.Scopes[i]; v4Serves(scope, r) {
			fitting = append(fitting, scope)
		}
	}
	switch len(fitting) {
	case 0:
		return nil, unsigned(http.StatusForbidden, "sigv4_scope", "the credential has no region and service to sign for %s with", r.Host)
	case 1:
		return fitting[0], nil
	}
	for _, scope := range fitting {
		if scope.Region == s.claim.region && scope.Service == s.claim.service {
			return scope, nil
		}
	}
	return nil, unsigned(http.StatusForbidden, "sigv4_scope",
		"the credential may sign for several regions or services at %s, and the client's own signature names none of them (it names %q, %q)", r.Host, s.claim.region, s.claim.service)
}

func v4Serves(scope *api.SigV4Scope, r *http.Request) bool {
	if len(scope.Hosts) == 0 {
		return true
	}
	for _, text := range scope.Hosts {
		if p, err := api.ParseHostPattern(text); err == nil && p.Match(r.URL.Hostname(), p.Port()) {
			return true
		}
	}
	return false
}

// Sign puts the signature into the request's headers, and gives what of it must
// not be seen in the answer.
func (s *v4Signer) Sign(r *http.Request, now time.Time) ([]byte, error) {
	scope, err := s.scope(r)
	if err != nil {
		return nil, err
	}
	key := scope.Key(now)
	if key == nil {
		return nil, unsigned(http.StatusServiceUnavailable, "sigv4_clock", "there is no signing key for this day: the clocks of the sidecar and the control plane are far apart")
	}
	if err := plainQuery(r); err != nil {
		return nil, err
	}
	payload, err := s.payload(r, scope.Service)
	if err != nil {
		return nil, err
	}
	at := now.UTC().Format(v4Time)
	r.Header.Set("X-Amz-Date", at)
	if len(s.keys.SessionToken) > 0 {
		r.Header.Set("X-Amz-Security-Token", string(s.keys.SessionToken))
	}
	if bareS3(scope.Service) || s.claim.payload != "" {
		r.Header.Set(payloadField, payload)
	}
	canonical, signed, err := canonicalRequest(r, payload, bareS3(scope.Service))
	if err != nil {
		return nil, err
	}
	place := at[:len(api.SigV4Date)] + "/" + scope.Region + "/" + scope.Service + "/aws4_request"
	sum := sha256.Sum256([]byte(canonical))
	signature := v4Sign(key, v4Algorithm+"\n"+at+"\n"+place+"\n"+hex.EncodeToString(sum[:]))
	r.Header.Set("Authorization", v4Algorithm+" Credential="+s.keys.AccessKeyID+"/"+place+", SignedHeaders="+signed+", Signature="+signature)
	if payload == v4Chunks || payload == v4Trailer {
		r.Body = newRechunker(r.Body, &chunkSigner{key: key, at: at, place: place, previous: signature}, payload == v4Trailer, &s.loan)
	}
	return []byte(signature), nil
}

// Release ends the use of what is held.
func (s *v4Signer) Release() { s.loan.giveBack() }

func v4Sign(key []byte, text string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// bareS3 reports whether a service is one of those that take paths as they are and
// bodies that are not signed: S3 and what speaks like it.
func bareS3(service string) bool {
	return service == "s3" || service == "s3-object-lambda" || service == "s3-outposts" || service == "s3express"
}

// payload is what the signature says of the body, and sees to it that it is true.
func (s *v4Signer) payload(r *http.Request, service string) (string, error) {
	none := r.Body == nil || r.Body == http.NoBody
	secure := r.URL.Scheme == "https"
	claim := s.claim.payload
	switch {
	case strings.HasPrefix(claim, "STREAMING-AWS4-ECDSA"):
		return "", unsigned(http.StatusNotImplemented, "sigv4a_unsupported", "the client signs by SigV4A (asymmetric), which can't be replaced; let it use SigV4 in one region")
	case claim == v4Chunks || claim == v4Trailer || claim == v4UnsignedTrailer && secure:
		if none {
			return "", unsigned(http.StatusBadRequest, "malformed_chunks", "x-amz-content-sha256 announces a body in chunks, and there is none")
		}
		return claim, nil
	case claim == v4Unsigned && secure:
		return claim, nil
	case strings.HasPrefix(claim, "STREAMING-"):
		return "", unsigned(http.StatusBadRequest, "payload_unsupported", "a body of the kind x-amz-content-sha256: %.64q can't be signed here", claim)
	case len(claim) == hex.EncodedLen(sha256.Size):
		want, err := hex.DecodeString(claim)
		if err != nil || claim != strings.ToLower(claim) {
			return "", unsigned(http.StatusBadRequest, "payload_mismatch", "x-amz-content-sha256 is no SHA-256 in small hexadecimal")
		}
		if !none {
			r.Body = verify(r.Body, want)
		} else if claim != v4EmptySHA256 {
			return "", errPayload
		}
		return claim, nil
	case none:
		return v4EmptySHA256, nil
	case bareS3(service) && secure:
		return v4Unsigned, nil
	}
	text, err := s.loan.hold(r)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}
