package control

import (
	"slices"
	"strings"
)

// Auth kinds whose secret signs and is not sent.
const (
	AuthSigV4      Auth = "sigv4"       // AWS Signature Version 4
	AuthHMAC       Auth = "hmac"        // RFC 2104, by a template
	AuthClientCert Auth = "client_cert" // a TLS client certificate with its key
)

// Rules of these kinds. That of HMAC is a header whose template has a signature.
const (
	RuleSigV4      RuleKind = "sigv4"
	RuleClientCert RuleKind = "client_cert"
)

// SignatureSlots are what a header's template holds with auth hmac.
var signatureSlots = []string{"{{signature:hex}}", "{{signature:base64}}", "{{timestamp}}", "{{nonce}}"}

// Signs reports whether the rule holds what is made for one request, or one
// connection, and not the token.
func (r Rule) Signs() bool {
	return r.Kind == RuleSigV4 || r.Kind == RuleClientCert || r.Kind == RuleHeader && slices.ContainsFunc(signatureSlots, func(slot string) bool {
		return strings.Contains(r.Template, slot)
	})
}

// UsualRules are those of a credential that names none.
func (a Auth) UsualRules() []Rule {
	switch a {
	case AuthBasic:
		return []Rule{{Kind: RuleBasic}}
	case AuthSigV4:
		return []Rule{{Kind: RuleSigV4}}
	case AuthClientCert:
		return []Rule{{Kind: RuleClientCert}}
	case AuthHMAC:
		return nil // no two services have the same
	}
	return []Rule{{Kind: RuleHeader, Name: "Authorization", Template: "Bearer " + tokenSlot}}
}

// CheckRules reports why an auth kind can't have the rules, if it can't.
func (a Auth) CheckRules(rules []Rule) error {
	signature := false
	for _, r := range rules {
		signature = signature || r.Kind == RuleSigV4 || r.Kind == RuleClientCert || strings.Contains(r.Template, "{{signature:")
		var fits bool
		switch a {
		case AuthSigV4:
			fits = r.Kind == RuleSigV4 || !r.Signs()
		case AuthHMAC:
			fits = r.Kind == RuleHeader || !r.Signs()
		case AuthClientCert:
			fits = r.Kind == RuleClientCert || !r.Signs()
		default:
			if r.Signs() {
				return Errorf(CodeInvalid, "the inject rule %q goes with auth sigv4, hmac or client_cert; this credential's is %s", r, a)
			}
			continue
		}
		plain := r.Kind == RuleDefault || r.Kind == RuleHeader && !strings.Contains(r.Template, tokenSlot)
		if !fits || !plain && !r.Signs() {
			return Errorf(CodeInvalid, "the inject rule %q does not go with auth %s, whose secret is not sent", r, a)
		}
	}
	switch {
	case signature:
		return nil
	case a == AuthHMAC:
		return Errorf(CodeInvalid, "auth hmac needs an inject rule with the signature, as in header:X-Signature: t={{timestamp}},v1={{signature:hex}}; there are %s", strings.Join(signatureSlots, ", "))
	case a == AuthSigV4 || a == AuthClientCert:
		return Errorf(CodeInvalid, "auth %s needs the inject rule %s", a, a)
	}
	return nil
}
