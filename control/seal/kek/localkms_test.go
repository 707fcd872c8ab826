package kek

import (
	"bytes"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"sallyport/control/controltest/server"
	"sallyport/control/seal"
)

// localKMS starts nsmithuk/local-kms, a server of AWS KMS's protocol that nobody here
// wrote, and points AWS's SDK to it.
func localKMS(t *testing.T) *kms.Client {
	t.Helper()
	url := server.Start(t, "../../../.cache/bin/local-kms", "KMS_REGION=eu-central-1", "KMS_DATA_PATH="+t.TempDir(), "KMS_SEED_PATH="+t.TempDir()+"/none")
	t.Setenv("AWS_ENDPOINT_URL_KMS", url)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	c, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("eu-central-1"))
	if err != nil {
		t.Fatal(err)
	}
	return kms.NewFromConfig(c)
}

// TestLocalKMS wraps by a key of a KMS server, with a second key beside it.
func TestLocalKMS(t *testing.T) {
	client := localKMS(t)
	open := func() (seal.Provider, string) {
		made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
		if err != nil {
			t.Fatal(err)
		}
		arn := aws.ToString(made.KeyMetadata.Arn)
		p, err := Open(t.Context(), "awskms:"+arn, nil)
		if err != nil {
			t.Fatal(err)
		}
		return p, arn
	}
	p, arn := open()
	other, _ := open()
	key, here := bytes.Repeat([]byte{7}, 32), []byte("team/vault/1")
	blob, id, err := p.Wrap(t.Context(), key, here)
	if err != nil || id != "awskms:"+arn {
		t.Fatalf("wrapped by %q: %v", id, err)
	}
	opens := func(what string, p seal.Provider, blob, aad []byte, want error) {
		t.Helper()
		got, err := p.Unwrap(t.Context(), id, blob, aad)
		if !errors.Is(err, want) || want == nil && !bytes.Equal(got, key) {
			t.Errorf("%s: %v", what, err)
		}
	}
	changed := bytes.Clone(blob)
	changed[len(changed)-1] ^= 1
	opens("as it was wrapped", p, blob, here, nil)
	opens("in another place", p, blob, []byte("team/vault/2"), seal.ErrClosed)
	opens("without a place", p, blob, nil, seal.ErrClosed)
	opens("with a bit turned", p, changed, here, seal.ErrClosed)
	opens("cut short", p, blob[:len(blob)-1], here, seal.ErrClosed)
	opens("by another key", other, blob, here, seal.ErrClosed)

	// A key that is off for a time must not be taken for one that does not fit.
	if _, err := client.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Unwrap(t.Context(), id, blob, here); err == nil || errors.Is(err, seal.ErrClosed) {
		t.Errorf("of a key that is disabled: %v", err)
	}
	if _, err := client.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	opens("when the key is on again", p, blob, here, nil)
	if _, err := client.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Unwrap(t.Context(), id, blob, here); err == nil || errors.Is(err, seal.ErrClosed) {
		t.Errorf("of a key that is to be deleted: %v", err)
	}
	if _, err := Open(t.Context(), "awskms:"+arn, nil); err == nil {
		t.Error("a key that is to be deleted was taken")
	}
}
