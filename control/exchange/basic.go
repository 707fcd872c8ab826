package exchange

import (
	"strings"

	"sallyport/control"
	"sallyport/control/api"
)

// CheckUsername reports why a user-id can't be sent by Basic authentication:
// a colon would move the boundary between it and the password, and control
// characters are not allowed (RFC 7617 section 2).
func CheckUsername(username string) error {
	switch {
	case username == "":
		return control.Errorf(control.CodeInvalid, "basic authentication needs a username")
	case len(username) > 255:
		return control.Errorf(control.CodeInvalid, "the username is longer than 255 bytes")
	case strings.ContainsFunc(username, func(r rune) bool { return r == ':' || r < ' ' || r == 0x7f }):
		return control.Errorf(control.CodeInvalid, "the username has a colon or a control character (RFC 7617 section 2)")
	}
	return nil
}

// basic is a password with its user-id.
func basic(username string, secret control.Secret) (api.Material, error) {
	if err := CheckUsername(username); err != nil {
		return api.Material{}, err
	}
	return api.Material{Username: username, Token: clone(secret)}, nil
}
