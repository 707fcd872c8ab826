package api

import (
	"crypto/sha256"
	"encoding/hex"
)

// TrustedBy is the name of a protocol (ALPN, RFC 7301) that a sidecar offers for
// each root that it trusts, by the SHA-256 of its certificate. Nobody speaks it: it
// lets a control plane with two roots show the certificate that will be believed.
func TrustedBy(fingerprint [sha256.Size]byte) string {
	return "sallyport-ca/" + hex.EncodeToString(fingerprint[:16])
}
