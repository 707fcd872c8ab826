package external

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"sallyport/control"
	"sallyport/control/exchange"
	"sallyport/control/external/externaltest"
)

func TestAWSSecretsManager(t *testing.T) {
	// The control plane's own, which no source may use.
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAOPERATOR")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "canary-operator")
	t.Setenv("AWS_ENDPOINT_URL", "https://127.0.0.1:1")
	const key = "canary-secret-access-key"
	address, client := serve(t, &externaltest.FakeSecretsManager{
		Credentials: aws.Credentials{AccessKeyID: "AKIATEAM", SecretAccessKey: key},
		Secrets: map[string]string{
			"prod/stripe": `{"api_key": "canary-key", "n": 7, "deep": {"x": 1}}`, "plain": "canary-plain", "denied": "denied",
		},
	})
	p := &awsSecrets{client}
	s := source("aws", control.Settings{"region": "eu-central-1", "access_key_id": "AKIATEAM", "address": address})
	for place, want := range map[string]string{
		"s:prod/stripe#api_key": "canary-key", "s:prod/stripe#n": "7", "s:plain": "canary-plain",
		"s:prod/stripe#a=api_key,n": `{"a":"canary-key","n":"7"}`,
	} {
		if got, version, err := read(t, p, s, key, place); err != nil || got != want || version != "0b1a2c3d-0000-4000-8000-000000000007" {
			t.Errorf("%s: %q, version %q, %v", place, got, version, err)
		}
	}
	export := `{"Version": 1, "AccessKeyId": "AKIATEAM", "SecretAccessKey": "` + key + `"}`
	if got, _, err := read(t, p, s, export, "s:plain"); err != nil || got != "canary-plain" {
		t.Errorf("credentials as the AWS CLI exports them: %q, %v", got, err)
	}
	for name, tc := range map[string]struct{ secret, place, want string }{
		"another key":  {"canary-other-key", "s:plain", "answers InvalidSignatureException"},
		"no secret":    {key, "s:none", "answers ResourceNotFoundException"},
		"not allowed":  {key, "s:denied", "answers AccessDeniedException"},
		"no field":     {key, "s:prod/stripe#key", `has no text "key"`},
		"no object":    {key, "s:plain#key", `has no text "key"`},
		"no such name": {key, "s:a b", "the name or the ARN"},
	} {
		if got, _, err := read(t, p, s, tc.secret, tc.place); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %q, %v; want an error with %q", name, got, err, tc.want)
		}
	}
	guarded := &awsSecrets{exchange.NewClient(exchange.Reach{})}
	if _, _, err := read(t, guarded, s, key, "s:plain"); err == nil || !strings.Contains(err.Error(), "not a public one") {
		t.Errorf("a private address: %v", err)
	}
	if err := p.CheckSecret(source("aws", control.Settings{"region": "eu-central-1"}), control.Secret(key)); err == nil {
		t.Error("a source without an access key of its own is taken")
	}
}
