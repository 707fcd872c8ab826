package kek

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"regexp"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"sallyport/control/seal"
)

var gcpName = regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$`)

var errChecksum = errors.New("the KMS of Google Cloud: what came is not what was sent: try again")

// gcpKey is a symmetric key of Google Cloud KMS.
type gcpKey struct {
	client *kms.KeyManagementClient
	name   string
}

// newGCP finds credentials as every program of Google Cloud does, unless options
// say otherwise.
func newGCP(ctx context.Context, name string, options ...option.ClientOption) (*gcpKey, error) {
	if !gcpName.MatchString(name) {
		return nil, errors.New("want gcpkms:projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY")
	}
	client, err := kms.NewKeyManagementClient(ctx, options...)
	if err != nil {
		return nil, err
	}
	return &gcpKey{client, name}, nil
}

func (k *gcpKey) ID() string { return "gcpkms:" + k.name }

// Close ends the connection.
func (k *gcpKey) Close() error { return k.client.Close() }

// Wrap implements seal.KEK.
func (k *gcpKey) Wrap(ctx context.Context, key, aad []byte) (blob []byte, id string, err error) {
	out, err := k.client.Encrypt(ctx, &kmspb.EncryptRequest{
		Name: k.name, Plaintext: key, PlaintextCrc32C: checksum(key),
		AdditionalAuthenticatedData: aad, AdditionalAuthenticatedDataCrc32C: checksum(aad),
	})
	if err != nil {
		return nil, "", fmt.Errorf("the KMS of Google Cloud: %w", err)
	}
	if !out.VerifiedPlaintextCrc32C || !out.VerifiedAdditionalAuthenticatedDataCrc32C || !intact(out.Ciphertext, out.CiphertextCrc32C) {
		return nil, "", errChecksum
	}
	return out.Ciphertext, k.ID(), nil
}

// Unwrap implements seal.KEK.
func (k *gcpKey) Unwrap(ctx context.Context, _ string, blob, aad []byte) ([]byte, error) {
	out, err := k.client.Decrypt(ctx, &kmspb.DecryptRequest{
		Name: k.name, Ciphertext: blob, CiphertextCrc32C: checksum(blob),
		AdditionalAuthenticatedData: aad, AdditionalAuthenticatedDataCrc32C: checksum(aad),
	})
	switch {
	case status.Code(err) == codes.InvalidArgument:
		return nil, seal.ErrClosed
	case err != nil:
		return nil, fmt.Errorf("the KMS of Google Cloud: %w", err)
	case !intact(out.Plaintext, out.PlaintextCrc32C):
		clear(out.Plaintext)
		return nil, errChecksum
	}
	return out.Plaintext, nil
}

func checksum(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
}

func intact(b []byte, sum *wrapperspb.Int64Value) bool {
	return sum != nil && sum.Value == checksum(b).Value
}
