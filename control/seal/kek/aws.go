package kek

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"sallyport/control/seal"
)

// encryptionContext is the one pair of the context that holds the associated data.
const encryptionContext = "sallyport"

// awsKey is a symmetric key of AWS KMS.
type awsKey struct {
	client *kms.Client
	arn    string
}

// newAWS finds credentials and endpoint as every program of AWS does, and the
// region in the ARN: arn:PARTITION:kms:REGION:ACCOUNT:key/ID.
func newAWS(ctx context.Context, arn string) (*awsKey, error) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "kms" || parts[3] == "" || !strings.HasPrefix(parts[5], "key/") {
		return nil, errors.New("want awskms:arn:aws:kms:REGION:ACCOUNT:key/ID")
	}
	c, err := config.LoadDefaultConfig(ctx, config.WithRegion(parts[3]))
	if err != nil {
		return nil, err
	}
	return &awsKey{kms.NewFromConfig(c), arn}, nil
}

func (k *awsKey) ID() string { return "awskms:" + k.arn }

// Wrap implements seal.KEK.
func (k *awsKey) Wrap(ctx context.Context, key, aad []byte) (blob []byte, id string, err error) {
	out, err := k.client.Encrypt(ctx, &kms.EncryptInput{KeyId: &k.arn, Plaintext: key, EncryptionContext: contextOf(aad)})
	if err != nil {
		return nil, "", fmt.Errorf("AWS KMS: %w", err)
	}
	return out.CiphertextBlob, k.ID(), nil
}

// Unwrap implements seal.KEK.
func (k *awsKey) Unwrap(ctx context.Context, _ string, blob, aad []byte) ([]byte, error) {
	out, err := k.client.Decrypt(ctx, &kms.DecryptInput{KeyId: aws.String(k.arn), CiphertextBlob: blob, EncryptionContext: contextOf(aad)})
	var invalid *types.InvalidCiphertextException
	var incorrect *types.IncorrectKeyException
	switch {
	case errors.As(err, &invalid), errors.As(err, &incorrect):
		return nil, seal.ErrClosed
	case err != nil:
		return nil, fmt.Errorf("AWS KMS: %w", err)
	}
	return out.Plaintext, nil
}

func contextOf(aad []byte) map[string]string {
	return map[string]string{encryptionContext: base64.StdEncoding.EncodeToString(aad)}
}
