package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"sallyport/control"
)

// JoinTokenLifetime is how long a join token may wait for its sidecar.
const JoinTokenLifetime = 5 * time.Minute

const joinPrefix = "sp_join_"

// JoinToken lets one sidecar enrol, once. It prints as [redacted].
type JoinToken struct {
	secret [32]byte
	pin    [sha256.Size]byte
}

// NewJoinToken makes a join token that pins the certificate of the CA that issues.
func (a *Authority) NewJoinToken() JoinToken {
	t := JoinToken{pin: a.set.Load().active.fingerprint()}
	rand.Read(t.secret[:]) // never fails
	return t
}

// ParseJoinToken reads the text that Reveal gives.
func ParseJoinToken(s string) (JoinToken, error) {
	malformed := control.Errorf(control.CodeUnauthorized, "the join token is malformed")
	rest, found := strings.CutPrefix(s, joinPrefix)
	secret, pin, cut := strings.Cut(rest, ".")
	if !found || !cut {
		return JoinToken{}, malformed
	}
	var t JoinToken
	for _, part := range []struct {
		text string
		into []byte
	}{{secret, t.secret[:]}, {pin, t.pin[:]}} {
		raw, err := base64.RawURLEncoding.Strict().DecodeString(part.text)
		if err != nil || len(raw) != len(part.into) {
			return JoinToken{}, malformed
		}
		copy(part.into, raw)
		clear(raw)
	}
	if t.Reveal() != s { // the decoder skips line breaks
		return JoinToken{}, malformed
	}
	return t, nil
}

// Hash is what is stored of the token.
func (t JoinToken) Hash() []byte {
	hash := sha256.Sum256(t.secret[:])
	return hash[:]
}

// Reveal is the token's text: "sp_join_", 32 random bytes and, after a dot, the
// SHA-256 of the CA's certificate, both base64url without padding. It is handed
// out once.
func (t JoinToken) Reveal() string {
	encode := base64.RawURLEncoding.EncodeToString
	return joinPrefix + encode(t.secret[:]) + "." + encode(t.pin[:])
}

func (t JoinToken) LogValue() slog.Value         { return slog.StringValue("[redacted]") }
func (t JoinToken) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Format keeps every verb of fmt from reaching the secret.
func (t JoinToken) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[redacted]") }
