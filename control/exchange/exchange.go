// Package exchange turns a stored secret into the short-lived material that a
// sidecar injects. Each auth kind is one file.
package exchange

import (
	"slices"

	"sallyport/control"
	"sallyport/control/api"
)

// Material gives what a sidecar injects for a credential. It shares no memory
// with secret, so that either may be wiped first.
func Material(c control.Credential, secret control.Secret) (api.Material, error) {
	switch c.Auth {
	case control.AuthToken:
		return token(secret), nil
	case control.AuthBasic:
		return basic(c.Username, secret)
	}
	return api.Material{}, control.Errorf(control.CodeInvalid, "the credential %s/%s has an auth kind %q that this build does not know", c.Vault, c.Name, c.Auth)
}

func clone(secret control.Secret) []byte { return slices.Clone([]byte(secret)) }
