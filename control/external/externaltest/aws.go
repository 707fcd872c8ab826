package externaltest

import (
	"encoding/json"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// FakeSecretsManager is AWS Secrets Manager for one access key. It checks signatures.
type FakeSecretsManager struct {
	Credentials aws.Credentials
	Secrets     map[string]string // texts by name
}

// ServeHTTP implements http.Handler (AWS JSON 1.1).
func (f *FakeSecretsManager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	wrong := func(kind, message string) {
		write(w, http.StatusBadRequest, map[string]any{"__type": kind, "Message": message})
	}
	if err := CheckSignature(r, f.Credentials); err != nil {
		wrong("InvalidSignatureException", err.Error())
		return
	}
	var in struct{ SecretId string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue" {
		wrong("InvalidRequestException", "no such operation")
		return
	}
	text, found := f.Secrets[in.SecretId]
	switch {
	case !found:
		wrong("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	case text == "denied":
		wrong("AccessDeniedException", "User: arn:aws:iam::123456789012:user/canary is not authorized to perform: secretsmanager:GetSecretValue")
	default:
		write(w, 200, map[string]any{
			"ARN": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:" + in.SecretId + "-AbCdEf", "Name": in.SecretId,
			"SecretString": text, "VersionId": "0b1a2c3d-0000-4000-8000-000000000007", "VersionStages": []string{"AWSCURRENT"}, "CreatedDate": 1.7e9,
		})
	}
}
