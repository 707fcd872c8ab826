package external

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"

	"sallyport/control"
	"sallyport/control/exchange"
)

const (
	awsRegion  = "region"
	awsKeyID   = exchange.AWSKeyID
	awsAddress = "address"
)

// awsSecrets is AWS Secrets Manager, opened by an access key of the team's own. The
// control plane's own role is never used: no credentials but the source's are looked for.
// https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
type awsSecrets struct{ client *http.Client }

var (
	awsRegionName = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$`)
	awsSecretName = regexp.MustCompile(`^[A-Za-z0-9/_+=.@:-]+$`)
)

// Settings implements Provider.
func (a *awsSecrets) Settings() []exchange.Setting {
	return []exchange.Setting{
		{Name: awsRegion, Required: true, Check: matches(awsRegionName, "it is a region, as eu-central-1")},
		{Name: awsKeyID},
		{Name: awsAddress, Check: checkAddress},
	}
}

// CheckSecret implements Provider.
func (a *awsSecrets) CheckSecret(s control.Source, secret control.Secret) error {
	key, err := exchange.ReadAWSKey(s.Settings, secret)
	key.Wipe()
	return err
}

// CheckPlace implements Provider.
func (a *awsSecrets) CheckPlace(_ control.Source, p control.Place) error {
	if !awsSecretName.MatchString(p.Path) {
		return control.Errorf(control.CodeInvalid, "the path %s: it is the name or the ARN of a secret, of letters, digits and / _ + = . @ : -", p.Path)
	}
	return nil
}

// Read implements Provider.
func (a *awsSecrets) Read(ctx context.Context, s control.Source, secret control.Secret, p control.Place) (Document, error) {
	key, err := exchange.ReadAWSKey(s.Settings, secret)
	if err != nil {
		return Document{}, control.Errorf(control.CodeExchange, "is opened by a key that can't be used: %v", err)
	}
	defer key.Wipe()
	options := secretsmanager.Options{
		Region: s.Settings[awsRegion], HTTPClient: a.client, RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: key.ID, SecretAccessKey: string(key.Key), SessionToken: string(key.Session)}, nil
		}),
	}
	if address := s.Settings[awsAddress]; address != "" {
		options.BaseEndpoint = &address
	}
	answer, err := secretsmanager.New(options).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &p.Path})
	if err != nil {
		return Document{}, awsFailed(err)
	}
	if answer.SecretString == nil {
		return Document{}, control.Errorf(control.CodeExchange, "has bytes at %s, and only text is read", p.Path)
	}
	document := Document{Whole: control.Secret(*answer.SecretString), Version: shortName(aws.ToString(answer.VersionId))}
	decoder := json.NewDecoder(strings.NewReader(*answer.SecretString))
	decoder.UseNumber()
	var object map[string]any
	if decoder.Decode(&object) == nil {
		document.Fields = texts(object)
	}
	return document, nil
}

// awsCodes are the error codes that are passed on: any other text could be anything.
func awsCodes() []string {
	return []string{
		"AccessDeniedException", "DecryptionFailure", "ExpiredTokenException", "InternalServiceError", "InvalidParameterException", "InvalidRequestException",
		"InvalidSignatureException", "ResourceNotFoundException", "ThrottlingException", "UnrecognizedClientException",
	}
}

func awsFailed(err error) error {
	var said smithy.APIError
	var answer interface{ HTTPStatusCode() int }
	switch {
	case errors.As(err, &said) && slices.Contains(awsCodes(), said.ErrorCode()):
		return control.Errorf(control.CodeExchange, "answers %s", said.ErrorCode())
	case errors.As(err, &answer) && answer.HTTPStatusCode() >= http.StatusMultipleChoices:
		return control.Errorf(control.CodeExchange, "answers %d", answer.HTTPStatusCode())
	}
	return err
}

// shortName is a version as a store names it, if that is a name and no more.
func shortName(version string) string {
	if len(version) > 64 || !awsSecretName.MatchString(version) {
		return ""
	}
	return version
}
