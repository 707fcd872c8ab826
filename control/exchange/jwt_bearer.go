package exchange

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"golang.org/x/oauth2"

	"sallyport/control"
)

const grantJWT = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// jwtBearer is a private key whose owner is known to the token endpoint (RFC 7523
// section 2.1).
func jwtBearer() Kind {
	return Kind{
		Settings: []Setting{
			endpoint(), {Name: "issuer", Required: true}, {Name: "subject"}, {Name: "audience"}, {Name: "scope"}, {Name: "key_id"},
		},
		CheckSecret: checkKey,
		Remote:      true,
		Exchange: func(ctx context.Context, client *http.Client, c control.Credential, secret control.Secret) (Minted, error) {
			s := c.Settings
			a := assertion{issuer: s["issuer"], subject: s["subject"], audience: s["audience"], keyID: s["key_id"]}
			return byAssertion(ctx, client, s["token_url"], s["scope"], a, secret)
		},
	}
}

// byAssertion gives the access token for an assertion; its audience, if it has none,
// is the endpoint, its subject the issuer.
func byAssertion(ctx context.Context, client *http.Client, endpoint, scope string, a assertion, key control.Secret) (Minted, error) {
	if a.audience == "" {
		a.audience = endpoint
	}
	if a.subject == "" {
		a.subject = a.issuer
	}
	signed, err := a.sign(key)
	if err != nil {
		return Minted{}, err
	}
	params := url.Values{"grant_type": {grantJWT}, "assertion": {signed}}
	if scope != "" {
		params.Set("scope", scope)
	}
	minted, unasked, err := tokenRequest{url: endpoint, style: oauth2.AuthStyleInParams, params: params}.send(ctx, client)
	unasked.Wipe()
	return minted, err
}

// serviceAccount is the part that matters of a key file of Google's.
type serviceAccount struct {
	Type     string `json:"type"`
	Email    string `json:"client_email"`
	Key      string `json:"private_key"`
	KeyID    string `json:"private_key_id"`
	TokenURI string `json:"token_uri"`
}

func readServiceAccount(secret control.Secret) (serviceAccount, error) {
	account := serviceAccount{}
	if json.Unmarshal(secret, &account) != nil || account.Type != "service_account" || account.Email == "" {
		return account, control.Errorf(control.CodeInvalid, "the secret is not the JSON key file of a service account, as the console of Google Cloud gives it")
	}
	if err := checkURL(account.TokenURI); err != nil {
		return account, control.Errorf(control.CodeInvalid, "the key file's token_uri: %v", err)
	}
	return account, checkKey(control.Credential{}, control.Secret(account.Key))
}

// google is the key file of a service account. Its own scopes stand in the assertion
// (developers.google.com/identity/protocols/oauth2/service-account).
func google() Kind {
	return Kind{
		Settings: []Setting{{Name: "scope", Required: true}, {Name: "subject"}},
		CheckSecret: func(_ control.Credential, secret control.Secret) error {
			_, err := readServiceAccount(secret)
			return err
		},
		Remote: true,
		Exchange: func(ctx context.Context, client *http.Client, c control.Credential, secret control.Secret) (Minted, error) {
			account, err := readServiceAccount(secret)
			if err != nil {
				return Minted{}, err
			}
			a := assertion{
				issuer: account.Email, subject: c.Settings["subject"], keyID: account.KeyID,
				claims: map[string]string{"scope": c.Settings["scope"]},
			}
			return byAssertion(ctx, client, account.TokenURI, "", a, control.Secret(account.Key))
		},
	}
}
