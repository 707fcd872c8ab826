package exchange

import (
	"context"
	"net/http"
	"strings"

	"sallyport/control"
	"sallyport/control/api"
)

// basic is a password with its user-id.
func basic() Kind {
	return Kind{
		Check:       checkUsername,
		CheckSecret: sent,
		Exchange: func(_ context.Context, _ *http.Client, c control.Credential, secret control.Secret) (Minted, error) {
			if err := checkUsername(c); err != nil {
				return Minted{}, err
			}
			return Minted{Material: api.Material{Username: c.Username, Token: clone(secret)}}, nil
		},
	}
}

// checkUsername reports why a user-id can't be sent by Basic authentication:
// a colon would move the boundary between it and the password, and control
// characters are not allowed (RFC 7617 section 2).
func checkUsername(c control.Credential) error {
	username := c.Username
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
