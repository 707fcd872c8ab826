package proxy_test

import (
	"errors"
	"testing"

	"sallyport/sidecar/proxy"
)

// What explains an error may end in its cause; the log then has that once.
func TestErrorNamesItsCauseOnce(t *testing.T) {
	for cause, want := range map[string]string{
		"rule 2 denies it":  "policy_denied: GET a.example: rule 2 denies it",
		"connection closed": "policy_denied: GET a.example: rule 2 denies it: connection closed",
	} {
		err := proxy.Errorf(403, "policy_denied", "GET a.example: rule 2 denies it")
		err.Cause = errors.New(cause)
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
}
