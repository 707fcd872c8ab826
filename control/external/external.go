// Package external reads secrets that lie in a team's own store, where Sallyport holds
// only the place and what opens the store (control.Source). Each kind of store is one
// file; New has the list.
//
//	credential ─ place ─▶ source ─ sealed ─▶ what opens it
//	                        └─ kept? turn? ─▶ provider ─ https ─▶ store
//
// A source is a team's, and so may be hostile: it is reached as a token endpoint is, by
// exchange.NewClient, and nothing of its answers is told but the secret.
package external

import (
	"context"
	"net/http"

	"sallyport/control"
	"sallyport/control/exchange"
)

// Provider is a kind of store. It is safe for concurrent use. Its errors are of package
// control and go on after the source's name ("answers 403"), or those of the client.
type Provider interface {
	// Settings are those that a source of the kind has.
	Settings() []exchange.Setting
	// CheckSecret reports why secret can't be what opens s. It never quotes it.
	CheckSecret(s control.Source, secret control.Secret) error
	// CheckPlace reports why nothing can lie at p.
	CheckPlace(s control.Source, p control.Place) error
	// Read gives what lies at p. It keeps neither secret nor document.
	Read(ctx context.Context, s control.Source, secret control.Secret, p control.Place) (Document, error)
}

// providers are all there are, by kind.
func providers(client *http.Client) map[string]Provider {
	return map[string]Provider{
		"vault":       newVault(client),
		"aws":         &awsSecrets{client},
		"onepassword": &onePassword{client},
	}
}

// settingPrefix is of every kind: where in the store credentials may have their secrets.
const settingPrefix = "prefix"
