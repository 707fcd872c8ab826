package exchange

import (
	"context"
	"net/http"
	"net/url"

	"sallyport/control"
)

// issRequired is of an authorization server that always says who it is when it sends a
// code (RFC 9207).
const issRequired = "required"

// oauthRefresh is what a person has allowed (RFC 6749 section 6): the secret is a JSON
// object with refresh_token, which a login can bring, and, unless the client is a public
// one, client_secret. A
// server that rotates refresh tokens (RFC 9700 section 4.14.2) uses up the one it
// gets, so the next is stored before the access token is given to anybody.
func oauthRefresh() Kind {
	return Kind{
		Settings: []Setting{
			endpoint(), {Name: "client_id", Required: true}, {Name: "client_auth", Check: oneOf(clientBasic, clientPost, clientNone)},
			{Name: "scope"}, {Name: "resource", Check: checkURL},
			{Name: "auth_url", Check: checkURL}, {Name: "redirect_uri", Check: checkRegistered}, // of a login
			{Name: "issuer", Check: checkURL}, {Name: "iss", Check: oneOf(issRequired)}, // of the answer to one
		},
		Check: func(c control.Credential) error {
			if c.Settings["iss"] != "" && c.Settings["issuer"] == "" {
				return control.Errorf(control.CodeInvalid, "the setting iss needs the setting issuer: whom an answer has to name")
			}
			return nil
		},
		CheckSecret: func(c control.Credential, secret control.Secret) error {
			read, err := readGrant(c, secret)
			wipeFields(read)
			return err
		},
		Remote:   true,
		Rotates:  true,
		Exchange: refresh,
	}
}

// readGrant reads the secret of an oauth_refresh.
func readGrant(c control.Credential, secret control.Secret) (map[string]control.Secret, error) {
	if c.Settings["client_auth"] == clientNone {
		return readFields(secret, "refresh_token?")
	}
	return readFields(secret, "refresh_token?", "client_secret")
}

func refresh(ctx context.Context, client *http.Client, c control.Credential, secret control.Secret) (Minted, error) {
	grant, err := readGrant(c, secret)
	if err != nil {
		return Minted{}, err
	}
	defer wipeFields(grant)
	if grant["refresh_token"] == nil {
		return Minted{}, control.Errorf(control.CodeExchange, "nobody has logged in for %s/%s yet: sallyport credential login %s/%s", c.Vault, c.Name, c.Vault, c.Name)
	}
	params := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {string(grant["refresh_token"])}}
	request, err := clientRequest(c.Settings, grant["client_secret"], params)
	if err != nil {
		return Minted{}, err
	}
	minted, next, err := request.send(ctx, client)
	err = forgotten(c, err)
	if refusedWith(err, "invalid_grant") {
		return Minted{}, control.Errorf(control.CodeExchange, "%v: the refresh token was withdrawn, has expired, or was used up by an exchange that could not be stored; log in again, or rotate %s/%s to a new one", err, c.Vault, c.Name)
	}
	if err != nil {
		return Minted{}, err
	}
	defer next.Wipe()
	if len(next) > 0 && string(next) != string(grant["refresh_token"]) {
		grant["refresh_token"].Wipe()
		grant["refresh_token"] = next
		minted.Secret = writeFields(grant)
	}
	return minted, nil
}

// forgotten says what to do where a server no longer knows a client that was registered
// by Discover.
func forgotten(c control.Credential, err error) error {
	if c.Settings["issuer"] == "" || !refusedWith(err, "invalid_client") {
		return err
	}
	return control.Errorf(control.CodeExchange, "%v: it no longer knows the client, whose registration may have expired; remove %s/%s, and register another with sallyport credential login --mcp %s %s/%s",
		err, c.Vault, c.Name, c.Settings["resource"], c.Vault, c.Name)
}
