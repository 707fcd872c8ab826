package api

import (
	"crypto/hpke"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
)

// Material is the short-lived thing injected into a request. It exists in clear
// only in the control plane while it is sealed and in the worker's memory.
// It shows itself as [redacted] wherever it is printed.
type Material struct {
	Username string // of Basic authentication, else empty
	Token    []byte
}

const redacted = "[redacted]"

func (m Material) String() string               { return redacted }
func (m Material) GoString() string             { return redacted }
func (m Material) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (m Material) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format keeps every verb of fmt from reaching the fields.
func (m Material) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// Wipe overwrites the token.
func (m *Material) Wipe() {
	clear(m.Token)
	m.Token = nil
}

// sealInfo separates material from anything else sealed to the same key.
var sealInfo = []byte("sallyport material v1")

// sealKEM is X-Wing (ML-KEM-768 with X25519), so that traffic recorded today
// stays closed to a quantum computer.
func sealKEM() hpke.KEM { return hpke.MLKEM768X25519() }

// encapsulatedSize is Nenc of X-Wing: a 1088 byte ML-KEM-768 ciphertext and a
// 32 byte X25519 public key.
const encapsulatedSize = 1088 + 32

// GenerateSealKey makes the key pair that a sandbox's material is sealed to.
func GenerateSealKey() (hpke.PrivateKey, error) { return sealKEM().GenerateKey() }

// ParseSealKey reads a private key from its Bytes.
func ParseSealKey(private []byte) (hpke.PrivateKey, error) { return sealKEM().NewPrivateKey(private) }

// CheckSealKey reports why a public key can't be sealed to, if it can't.
func CheckSealKey(publicKey []byte) error {
	_, err := sealKEM().NewPublicKey(publicKey)
	return err
}

// SealMaterial encrypts material to a sandbox's public key (HPKE base mode,
// RFC 9180, ChaCha20-Poly1305). The credential and version are authenticated,
// so one lease can't be passed off as another.
func SealMaterial(publicKey []byte, credentialID string, version uint64, m Material) ([]byte, error) {
	key, err := sealKEM().NewPublicKey(publicKey)
	if err != nil {
		return nil, fmt.Errorf("read the sandbox's seal key: %w", err)
	}
	encapsulated, sender, err := hpke.NewSender(key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), sealInfo)
	if err != nil {
		return nil, fmt.Errorf("encapsulate to the sandbox's seal key: %w", err)
	}
	plain := make([]byte, 0, 4+len(m.Username)+len(m.Token))
	plain = binary.BigEndian.AppendUint32(plain, uint32(len(m.Username)))
	plain = append(plain, m.Username...)
	plain = append(plain, m.Token...)
	defer clear(plain)
	ciphertext, err := sender.Seal(sealAAD(credentialID, version), plain)
	if err != nil {
		return nil, fmt.Errorf("seal material: %w", err)
	}
	return append(encapsulated, ciphertext...), nil
}

// OpenMaterial is the inverse of SealMaterial.
func OpenMaterial(key hpke.PrivateKey, credentialID string, version uint64, sealed []byte) (Material, error) {
	if len(sealed) < encapsulatedSize {
		return Material{}, errors.New("open material: the sealed text is too short")
	}
	recipient, err := hpke.NewRecipient(sealed[:encapsulatedSize], key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), sealInfo)
	if err != nil {
		return Material{}, fmt.Errorf("open material: %w", err)
	}
	plain, err := recipient.Open(sealAAD(credentialID, version), sealed[encapsulatedSize:])
	if err != nil {
		return Material{}, fmt.Errorf("open material of credential %s version %d: %w", credentialID, version, err)
	}
	if len(plain) < 4 || uint64(len(plain)-4) < uint64(binary.BigEndian.Uint32(plain)) {
		return Material{}, errors.New("open material: malformed")
	}
	n := binary.BigEndian.Uint32(plain)
	return Material{Username: string(plain[4 : 4+n]), Token: plain[4+n:]}, nil
}

func sealAAD(credentialID string, version uint64) []byte {
	return append(append([]byte(credentialID), 0), strconv.FormatUint(version, 10)...)
}
