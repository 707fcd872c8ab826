package api

// carriers are the header fields in which clients send keys, as FoldField spells them.
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

// CarriesKey reports whether clients send keys in the header field that FoldField
// spells folded. Such a field of a client's is never sent on beside a credential.
func CarriesKey(folded []byte) bool { return carriers[string(folded)] }

// FoldField appends the name of a header field in lower case, with a hyphen for all
// that is no letter or digit: CGI and its heirs give X-Api-Key, x_api_key and
// X.Api.Key one name.
func FoldField(dst []byte, name string) []byte {
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
