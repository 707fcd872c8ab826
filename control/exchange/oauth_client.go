package exchange

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"sallyport/control"
)

// How a client proves who it is to a token endpoint (RFC 7591 section 2, without
// the "client_secret_").
const (
	clientBasic = "basic"
	clientPost  = "post"
	clientKey   = "private_key_jwt"
	clientNone  = "none"
)

func endpoint() Setting {
	return Setting{Name: "token_url", Required: true, Check: checkURL, Steers: true}
}

// oneOf allows only some values.
func oneOf(values ...string) func(string) error {
	return func(value string) error {
		if !slices.Contains(values, value) {
			return errors.New("it is one of " + strings.Join(values, ", "))
		}
		return nil
	}
}

// oauthClient is a client's own credentials (RFC 6749 section 4.4). The secret is the
// client secret, or the private key of private_key_jwt.
func oauthClient() Kind {
	return Kind{
		Settings: []Setting{
			endpoint(), {Name: "client_id", Required: true}, {Name: "client_auth", Check: oneOf(clientBasic, clientPost, clientKey)},
			{Name: "scope"}, {Name: "audience"}, {Name: "resource", Check: checkURL}, {Name: "key_id"},
		},
		CheckSecret: func(c control.Credential, secret control.Secret) error {
			if c.Settings["client_auth"] == clientKey {
				return checkKey(c, secret)
			}
			return sent(c, secret)
		},
		Remote: true,
		Exchange: func(ctx context.Context, client *http.Client, c control.Credential, secret control.Secret) (Minted, error) {
			params := url.Values{"grant_type": {"client_credentials"}}
			request, err := clientRequest(c.Settings, secret, params)
			if err != nil {
				return Minted{}, err
			}
			minted, unasked, err := request.send(ctx, client)
			unasked.Wipe() // RFC 6749 section 4.4.3: there should be none
			return minted, err
		},
	}
}

// clientRequest is a request of the client that s says, by what s says of it. secret
// may be empty for a public client.
func clientRequest(s control.Settings, secret control.Secret, params url.Values) (tokenRequest, error) {
	for _, name := range []string{"scope", "audience", "resource"} {
		if s[name] != "" {
			params.Set(name, s[name])
		}
	}
	t := tokenRequest{url: s["token_url"], clientID: s["client_id"], clientSecret: secret, style: oauth2.AuthStyleInHeader, params: params}
	switch s["client_auth"] {
	case clientPost, clientNone:
		t.style = oauth2.AuthStyleInParams
	case clientKey:
		signed, err := assertion{issuer: t.clientID, subject: t.clientID, audience: t.url, keyID: s["key_id"]}.sign(secret)
		if err != nil {
			return t, err
		}
		t.style, t.clientSecret = oauth2.AuthStyleInParams, nil
		params.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		params.Set("client_assertion", signed)
	}
	return t, nil
}
