package inject

import (
	"fmt"
	"net/http"

	"golang.org/x/net/http/httpguts"

	"sallyport/control/api"
)

func renderHeader(r *http.Request, rule *api.Rule_Header, m api.Material) (func(), error) {
	value := fill(rule.GetTemplate(), string(m.Token))
	switch {
	case !httpguts.ValidHeaderFieldName(rule.GetName()):
		return nil, fmt.Errorf("%w: %q is no name of a header", ErrRule, rule.GetName())
	case !httpguts.ValidHeaderFieldValue(value):
		return nil, fmt.Errorf("%w: the header %s would hold a control character", ErrMaterial, rule.GetName())
	}
	return func() { r.Header.Set(rule.GetName(), value) }, nil
}

// carriers are the header fields in which clients send keys, as fold spells them.
var carriers = map[string]bool{
	"authorization": true, "proxy-authorization": true, "x-authorization": true, "x-forwarded-authorization": true,
	"x-api-key": true, "api-key": true, "apikey": true, "x-apikey": true, "x-api-token": true, "api-token": true,
	"x-auth-token": true, "auth-token": true, "x-auth-key": true, "x-auth": true, "x-access-token": true, "access-token": true,
	"x-token": true, "token": true, "x-secret": true, "x-api-secret": true, "x-client-secret": true,
	"private-token": true, "job-token": true, "deploy-token": true, // GitLab
	"x-goog-api-key": true, "x-goog-iam-authorization-token": true, // Google
	"x-amz-security-token":      true,                          // AWS
	"ocp-apim-subscription-key": true, "x-functions-key": true, // Azure
	"dd-api-key": true, "x-vault-token": true, "circle-token": true, "x-figma-token": true, "x-shopify-access-token": true,
	"x-postmark-server-token": true, "x-subscription-token": true, "x-rapidapi-key": true, "x-honeycomb-team": true,
}

// clearFields removes the fields that carry keys, and those the rules set, in
// every spelling that a server may take for theirs.
func clearFields(h http.Header, rules []*api.Rule) {
	var buf [64]byte
	for name := range h {
		folded := fold(buf[:0], name)
		if carriers[string(folded)] || ruled(folded, rules) {
			delete(h, name)
		}
	}
}

func ruled(folded []byte, rules []*api.Rule) bool {
	var buf [64]byte
	for _, rule := range rules {
		if header := rule.GetHeader(); header != nil && string(fold(buf[:0], header.GetName())) == string(folded) {
			return true
		}
	}
	return false
}

// fold appends name in lower case, with a hyphen for all that is no letter or
// digit: CGI and its heirs give X-Api-Key, x_api_key and X.Api.Key one name.
func fold(dst []byte, name string) []byte {
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case (c < 'a' || c > 'z') && (c < '0' || c > '9'):
			c = '-'
		}
		dst = append(dst, c)
	}
	return dst
}
