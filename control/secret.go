package control

import (
	"fmt"
	"log/slog"
)

// SecretIdentity is where a sealed secret belongs. It is authenticated with the
// ciphertext, so a row moved anywhere else does not open.
type SecretIdentity struct {
	Team, Vault, Credential string // ids
	Version                 int64
	Field                   string // one of the sealed fields
}

// The sealed fields of a credential's version, and of a source.
const (
	FieldSecret = "secret"
	FieldMinted = "minted" // what an exchange gave for the secret
	FieldDigest = "digest" // tells a secret that lies in a source from others
	FieldSource = "source" // what opens a source, whose id is in the credential's place
)

// WrappedKey is a vault's data key, wrapped by a key-encryption key.
type WrappedKey struct {
	KEK     string // id of the key-encryption key that wraps it
	Version int64  // of the data key, from 1
	Blob    []byte
}

// SealedSecret is one version of a secret at rest.
type SealedSecret struct {
	KeyVersion int64  // of the data key it was sealed under
	Salt       []byte // 32 bytes, of this record alone
	Commitment []byte // 32 bytes, commits to the derived key
	Ciphertext []byte
}

// Secret is a value that must never be shown. It prints as [redacted].
type Secret []byte

const redacted = "[redacted]"

func (s Secret) String() string               { return redacted }
func (s Secret) GoString() string             { return redacted }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format keeps every verb of fmt from reaching the bytes.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// Wipe overwrites the value.
func (s Secret) Wipe() { clear(s) }

// MaxSecretLength bounds a secret; a header that carries more is refused by most servers.
const MaxSecretLength = 16 << 10

// Secrets under MaskedSecret bytes can be guessed, and can't be told from other
// text: an answer that holds one is not passed on. One under SentSecret is not
// sent at all.
const (
	MaskedSecret = 16
	SentSecret   = 8
)

// Weakness says what a person who stores s should know, or nothing.
func Weakness(s Secret) string {
	switch {
	case len(s) < SentSecret:
		return fmt.Sprintf("the secret is shorter than %d bytes and can't be hidden in what a service answers: no request will carry it", SentSecret)
	case len(s) < MaskedSecret:
		return fmt.Sprintf("the secret is shorter than %d bytes: an answer that repeats it is refused where a longer one would be masked", MaskedSecret)
	}
	return ""
}

// CheckLength reports why a secret can't be stored, whatever it is.
func CheckLength(s Secret) error {
	switch {
	case len(s) == 0:
		return Errorf(CodeInvalid, "the secret is empty")
	case len(s) > MaxSecretLength:
		return Errorf(CodeInvalid, "the secret is longer than %d bytes", MaxSecretLength)
	}
	return nil
}

// CheckSecret reports why a secret that requests carry can't be stored, if it
// can't. The message never holds the value.
func CheckSecret(s Secret) error {
	if err := CheckLength(s); err != nil {
		return err
	}
	for _, c := range s {
		if c < ' ' && c != '\t' || c == 0x7f {
			return Errorf(CodeInvalid, "the secret has a control character (a line break, perhaps); it could end a header early and is not stored")
		}
	}
	return nil
}
