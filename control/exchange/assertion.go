package exchange

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/control"
)

const (
	// assertionLife is how long an assertion of ours holds: it is used at once.
	assertionLife = 5 * time.Minute
	// clockSkew is how far another server's clock may be behind.
	clockSkew = 30 * time.Second
)

// assertion is a JWT that proves who asks a token endpoint (RFC 7523).
type assertion struct {
	issuer, subject, audience string
	claims                    map[string]string // beside those
	keyID                     string
	life                      time.Duration // 0: assertionLife
}

// sign makes the JWT with a PEM private key.
func (a assertion) sign(key control.Secret) (string, error) {
	signer, method, err := parseKey(key)
	if err != nil {
		return "", err
	}
	life := a.life
	if life == 0 {
		life = assertionLife
	}
	now := time.Now()
	claims := jwt.MapClaims{
		"iss": a.issuer, "iat": now.Add(-clockSkew).Unix(), "exp": now.Add(life).Unix(), "jti": rand.Text(),
	}
	for name, value := range map[string]string{"sub": a.subject, "aud": a.audience} {
		if value != "" {
			claims[name] = value
		}
	}
	for name, value := range a.claims {
		claims[name] = value
	}
	token := jwt.NewWithClaims(method, claims)
	if a.keyID != "" {
		token.Header["kid"] = a.keyID
	}
	signed, err := token.SignedString(signer)
	if err != nil {
		return "", control.Errorf(control.CodeExchange, "the private key can't sign")
	}
	return signed, nil
}

// parseKey reads a PEM private key and says how it signs (RFC 7518, RFC 8037).
func parseKey(text control.Secret) (crypto.Signer, jwt.SigningMethod, error) {
	block, rest := pem.Decode(text)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, nil, control.Errorf(control.CodeInvalid, "the private key is not one PEM block (-----BEGIN … PRIVATE KEY-----)")
	}
	defer clear(block.Bytes)
	switch key := readKey(block).(type) {
	case *rsa.PrivateKey:
		if key.N.BitLen() < 2048 {
			return nil, nil, control.Errorf(control.CodeInvalid, "the RSA key has less than 2048 bits")
		}
		return key, jwt.SigningMethodRS256, nil
	case *ecdsa.PrivateKey:
		switch key.Curve {
		case elliptic.P256():
			return key, jwt.SigningMethodES256, nil
		case elliptic.P384():
			return key, jwt.SigningMethodES384, nil
		}
	case ed25519.PrivateKey:
		return key, jwt.SigningMethodEdDSA, nil
	}
	return nil, nil, control.Errorf(control.CodeInvalid, "the private key is none of RSA, P-256, P-384 and Ed25519, in PKCS #8, PKCS #1 or SEC 1, without a passphrase")
}

func readKey(block *pem.Block) any {
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		return key
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key
	}
	key, _ := x509.ParseECPrivateKey(block.Bytes)
	return key
}

// checkKey is a CheckSecret for a PEM private key.
func checkKey(_ control.Credential, secret control.Secret) error {
	_, _, err := parseKey(secret)
	return err
}
