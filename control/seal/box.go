package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"sallyport/control"
)

const (
	saltSize       = 32
	commitmentSize = 32

	schema    = "sallyport seal v1"
	algorithm = "HKDF-SHA256 AES-256-GCM"

	fieldDataKey = "data-key"
)

// box is something encrypted under a key that is used once: derived, with a
// commitment to it, from a longer-lived key and a fresh salt (RFC 5869). AES-GCM
// alone does not commit: one ciphertext can open under two keys.
type box struct {
	salt, commitment, ciphertext []byte
}

// ErrClosed is what does not open. It says nothing of why, which would only help a forger.
var ErrClosed = errors.New("it does not open: it was changed, belongs elsewhere, or the key is another")

func seal(key, aad, plain []byte) (box, error) {
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails, since Go 1.24
	return sealSalted(key, aad, plain, salt)
}

func sealSalted(key, aad, plain, salt []byte) (box, error) {
	aead, commitment, err := derive(key, salt)
	if err != nil {
		return box{}, err
	}
	return box{salt, commitment, aead.Seal(nil, nonce(aead), plain, aad)}, nil
}

func open(key, aad []byte, b box) ([]byte, error) {
	if len(b.salt) != saltSize {
		return nil, ErrClosed
	}
	aead, commitment, err := derive(key, b.salt)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(commitment, b.commitment) != 1 {
		return nil, ErrClosed
	}
	plain, err := aead.Open(nil, nonce(aead), b.ciphertext, aad)
	if err != nil {
		return nil, ErrClosed
	}
	return plain, nil
}

// derive gives the cipher of one box and the commitment to its key.
func derive(key, salt []byte) (cipher.AEAD, []byte, error) {
	okm, err := hkdf.Key(sha256.New, key, salt, schema+" "+algorithm, keySize+commitmentSize)
	if err != nil {
		return nil, nil, fmt.Errorf("derive a key: %w", err)
	}
	defer clear(okm[:keySize])
	block, err := aes.NewCipher(okm[:keySize])
	if err != nil {
		return nil, nil, fmt.Errorf("derive a key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, fmt.Errorf("derive a key: %w", err)
	}
	return aead, okm[keySize:], nil
}

// nonce is zero: the key encrypts one thing.
func nonce(aead cipher.AEAD) []byte { return make([]byte, aead.NonceSize()) }

// secretAAD is the associated data of a secret.
func secretAAD(id control.SecretIdentity, keyVersion int64) []byte { return associated(id, keyVersion) }

// dataKeyAAD is the associated data of a vault's wrapped data key.
func dataKeyAAD(team, vault string, keyVersion int64) []byte {
	return associated(control.SecretIdentity{Team: team, Vault: vault, Field: fieldDataKey}, keyVersion)
}

// associated is schema, team, vault, credential, version, field, key version and
// algorithm, each after its length in 8 bytes; numbers are 8 bytes, big-endian.
func associated(id control.SecretIdentity, keyVersion int64) []byte {
	var aad []byte
	for _, field := range [][]byte{
		[]byte(schema), []byte(id.Team), []byte(id.Vault), []byte(id.Credential), number(id.Version),
		[]byte(id.Field), number(keyVersion), []byte(algorithm),
	} {
		aad = append(binary.BigEndian.AppendUint64(aad, uint64(len(field))), field...)
	}
	return aad
}

func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
