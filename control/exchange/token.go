package exchange

import (
	"sallyport/control"
	"sallyport/control/api"
)

// token is a secret that is sent as it is.
func token(secret control.Secret) api.Material {
	return api.Material{Token: clone(secret)}
}
