package exchange

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"sallyport/control"
)

// register makes a client of ours known to an authorization server (RFC 7591), a public
// one if it may be, and puts what it is known by into found.
func (x *Exchanger) register(ctx context.Context, server oauthex.AuthServerMeta, found *Discovered) error {
	wanted, err := clientMethod(server)
	if err != nil {
		return err
	}
	redirect := found.Settings["redirect_uri"]
	made, err := oauthex.RegisterClient(ctx, server.RegistrationEndpoint, &oauthex.ClientRegistrationMetadata{
		ClientName: "Sallyport", RedirectURIs: []string{redirect}, Scope: found.Settings["scope"],
		GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"},
		TokenEndpointAuthMethod: wanted, ApplicationType: applicationType(redirect),
	}, x.client)
	if err != nil {
		return notRegistered(server.RegistrationEndpoint, err)
	}
	given := made.TokenEndpointAuthMethod
	if given == "" {
		given = wanted
	}
	secret := control.Secret(made.ClientSecret)
	defer secret.Wipe()
	if len(made.RedirectURIs) > 0 && !slices.Contains(made.RedirectURIs, redirect) {
		return control.Errorf(control.CodeExchange, "%s registered the client for other redirects than it was asked to", host(server.RegistrationEndpoint))
	}
	method, known := clientMethods()[given]
	if !known || method != clientNone && control.CheckSecret(secret) != nil {
		return control.Errorf(control.CodeExchange, "%s registered a client that proves who it is in a way that we can't", host(server.RegistrationEndpoint))
	}
	found.Settings["client_id"], found.Settings["client_auth"] = made.ClientID, method
	fields := map[string]control.Secret{}
	if method != clientNone {
		fields["client_secret"] = secret
		found.Ends = made.ClientSecretExpiresAt
	}
	found.Secret = writeFields(fields)
	return nil
}

// applicationType is what OpenID Connect Dynamic Client Registration 1.0 calls a client
// whose codes come to a URI: a web server has https, a program on a machine loopback.
func applicationType(redirect string) string {
	if strings.HasPrefix(redirect, "https:") {
		return "web"
	}
	return "native"
}

// clientMethods are the ways that a client proves who it is, by their names in metadata.
func clientMethods() map[string]string {
	return map[string]string{"none": clientNone, "client_secret_basic": clientBasic, "client_secret_post": clientPost}
}

// clientMethod is the one that a server takes, without a secret if it may be.
func clientMethod(server oauthex.AuthServerMeta) (string, error) {
	takes := server.TokenEndpointAuthMethodsSupported
	if len(takes) == 0 {
		takes = []string{"client_secret_basic"} // RFC 8414 section 2
	}
	for _, method := range []string{"none", "client_secret_post", "client_secret_basic"} {
		if slices.Contains(takes, method) {
			return method, nil
		}
	}
	return "", control.Errorf(control.CodeExchange, "%s takes clients only that prove who they are in a way that we can't", host(server.Issuer))
}

// notRegistered tells of err without what the endpoint wrote.
func notRegistered(endpoint string, err error) error {
	var refused *oauthex.ClientRegistrationError
	var sending *url.Error
	switch {
	case errors.As(err, &refused) && slices.Contains(codes(), refused.ErrorCode):
		return control.Errorf(control.CodeExchange, "%s does not register the client: %s", host(endpoint), refused.ErrorCode)
	case errors.As(err, &sending):
		return failed(endpoint, err)
	}
	return control.Errorf(control.CodeExchange, "%s does not register the client", host(endpoint))
}
