package control_test

import (
	"strings"
	"testing"

	"sallyport/control"
)

func TestPlace(t *testing.T) {
	for _, text := range []string{
		"vault:kv/data/stripe", "vault:kv/data/stripe#api_key", "a:b#access_key_id,secret_access_key=secret",
		"aws:arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/stripe-AbCdEf", "aws:/prod/stripe#k", "op:Agents/Stripe live#password",
	} {
		if p, err := control.ParsePlace(text); err != nil || p.String() != text {
			t.Errorf("%s is read as %s, %v", text, p, err)
		}
	}
	for text, want := range map[string]string{
		"": "SOURCE:PATH", "vault": "SOURCE:PATH", "vault:": "SOURCE:PATH", "Vault:kv": "lower-case", ":kv": "needs a name",
		"vault:kv/../sys/raw#k": "..", "vault:../x": "a path is of", "vault:kv/./x": "a part", "vault:kv//x": "a part", "vault://x": "a path is of", "vault:kv/": "a part",
		"vault:kv/%2e%2e/sys": "a path is of", "vault:kv?list=true": "a path is of", `vault:kv\x`: "a path is of", "vault:kv\r\nX: y": "a path is of", "vault:kv\x00": "a path is of",
		"vault:kv#": "a field", "vault:kv#a,": "a field", "vault:kv#a#b": "a field", "vault:kv#a\n": "a field", "vault:kv#a,a": "twice", "vault:kv#=a": "a field", "vault:kv#a=": "a field",
		"vault:" + strings.Repeat("k", 1024): "longer",
	} {
		if p, err := control.ParsePlace(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is read as %v, %v; want an error with %q", text, p, err, want)
		}
	}
}
