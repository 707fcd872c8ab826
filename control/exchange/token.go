package exchange

import (
	"context"
	"net/http"

	"sallyport/control"
	"sallyport/control/api"
)

// token is a secret that is sent as it is.
func token() Kind {
	return Kind{
		CheckSecret: sent,
		Exchange: func(_ context.Context, _ *http.Client, _ control.Credential, secret control.Secret) (Minted, error) {
			return Minted{Material: api.Material{Token: clone(secret)}}, nil
		},
	}
}

// sent checks a secret that a request carries.
func sent(_ control.Credential, secret control.Secret) error { return control.CheckSecret(secret) }
