package control

import (
	"crypto/sha256"
	"encoding/base64"
	"time"
)

// Person is somebody whom an OpenID Connect issuer vouches for.
type Person struct {
	Issuer  string  `json:"issuer"`
	Subject string  `json:"subject"` // of the issuer; never another person's
	Email   string  `json:"email"`
	Grants  []Grant `json:"grants"` // at login
}

// Session is a person's login, or a browser's that was begun with an API token, without
// the value that is sent with each request.
type Session struct {
	ID string `json:"id"`
	Person
	CreatedAt  time.Time `json:"created_at"`
	LastUsedAt time.Time `json:"last_used_at"` // within a minute
	ExpiresAt  time.Time `json:"expires_at"`   // whatever it is used for

	Token   string `json:"token,omitempty"`   // name of the API token; then there is no person, and the grant is the token's
	Current bool   `json:"current,omitempty"` // it is what asks
}

// LoginNonce is what the ID token of a login by code has to carry (OpenID Connect Core
// 3.1.2.1): whoever knows the login's PKCE verifier knows it, and nobody else does.
func LoginNonce(verifier string) string {
	sum := sha256.Sum256([]byte("sallyport nonce " + verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
