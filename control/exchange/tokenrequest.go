package exchange

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"sallyport/control"
	"sallyport/control/api"
)

// unsaid is how long an access token is used that came without expires_in, which
// RFC 6749 section 5.1 only recommends.
const unsaid = 10 * time.Minute

// tokenRequest is a request to a token endpoint (RFC 6749 section 3.2).
type tokenRequest struct {
	url          string
	clientID     string
	clientSecret control.Secret
	style        oauth2.AuthStyle
	params       url.Values // grant_type and what belongs to it
}

// send gives the access token, and the refresh token if there is one, which the
// caller wipes.
func (t tokenRequest) send(ctx context.Context, client *http.Client) (Minted, control.Secret, error) {
	config := clientcredentials.Config{
		ClientID: t.clientID, ClientSecret: string(t.clientSecret), TokenURL: t.url, AuthStyle: t.style, EndpointParams: t.params,
	}
	token, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, Bounded(client, maxToken)))
	if err != nil {
		return Minted{}, nil, t.failed(err)
	}
	if !strings.EqualFold(token.Type(), "bearer") {
		return Minted{}, nil, control.Errorf(control.CodeExchange, "%s gave a token that is no bearer token (RFC 6750)", host(t.url))
	}
	access := control.Secret(token.AccessToken)
	if control.CheckSecret(access) != nil {
		access.Wipe()
		return Minted{}, nil, control.Errorf(control.CodeExchange, "%s gave an access token that no header can carry", host(t.url))
	}
	expiry := token.Expiry
	if expiry.IsZero() {
		expiry = time.Now().Add(unsaid)
	}
	return Minted{Material: api.Material{Token: access}, Expiry: expiry}, control.Secret(token.RefreshToken), nil
}

// codes are the error codes that are passed on (RFC 6749 section 5.2, RFC 8707, RFC
// 7591): any other text of an answer could be anything.
func codes() []string {
	return []string{
		"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
		"invalid_target", "access_denied", "server_error", "temporarily_unavailable", "slow_down",
		"invalid_redirect_uri", "invalid_client_metadata",
	}
}

// refusal is an error code of a token endpoint.
type refusal struct {
	error
	code string
}

func (r *refusal) Unwrap() error { return r.error }

// failed tells of err without what the endpoint wrote.
func (t tokenRequest) failed(err error) error {
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) || answer.Response == nil {
		return failed(t.url, err)
	}
	if slices.Contains(codes(), answer.ErrorCode) {
		return &refusal{control.Errorf(control.CodeExchange, "%s answers %d, %s", host(t.url), answer.Response.StatusCode, answer.ErrorCode), answer.ErrorCode}
	}
	return control.Errorf(control.CodeExchange, "%s answers %d", host(t.url), answer.Response.StatusCode)
}

// refusedWith reports whether err is that error code of a token endpoint.
func refusedWith(err error, code string) bool {
	var r *refusal
	return errors.As(err, &r) && r.code == code
}

func host(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "the server"
	}
	return u.Host
}
