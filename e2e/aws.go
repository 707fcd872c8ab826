package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"sallyport/control/external/externaltest"
)

// FakeAWS answers in the shape of STS and S3, to requests whose signature is
// right: nothing of what was signed has changed on the way.
func FakeAWS(keyID, secret string) http.Handler {
	api := http.NewServeMux()
	api.HandleFunc("POST "+STSHost+"/", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/xml")
		fmt.Fprint(rw, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>`+
			`<Arn>arn:aws:iam::123456789012:user/e2e</Arn><UserId>AIDAE2E</UserId><Account>123456789012</Account></GetCallerIdentityResult>`+
			`<ResponseMetadata><RequestId>e2e</RequestId></ResponseMetadata></GetCallerIdentityResponse>`)
	})
	var mu sync.Mutex
	objects := make(map[string][]byte)
	api.HandleFunc("PUT "+S3Host+"/{key...}", func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		objects[r.PathValue("key")] = body
		rw.Header().Set("ETag", `"e2e"`)
	})
	api.HandleFunc(S3Host+"/{key...}", func(rw http.ResponseWriter, r *http.Request) { // GET and HEAD
		mu.Lock()
		body, ok := objects[r.PathValue("key")]
		mu.Unlock()
		if !ok {
			http.NotFound(rw, r)
			return
		}
		rw.Header().Set("ETag", `"e2e"`)
		http.ServeContent(rw, r, "", time.Unix(1, 0), strings.NewReader(string(body)))
	})
	credentials := aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if err := externaltest.CheckSignature(r, credentials); err != nil {
			http.Error(rw, "SignatureDoesNotMatch: "+err.Error(), http.StatusForbidden)
			return
		}
		api.ServeHTTP(rw, r)
	})
}
