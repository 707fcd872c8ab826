package inject

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"sallyport/control/api"
)

// Signing is what requests are signed with: made of material once, for all that
// are sent with it.
type Signing struct {
	keys *api.SigV4 // of SigV4
	rule *api.Rule_HMAC
	key  []byte // of HMAC
}

// Signer signs one request.
type Signer interface {
	// Sign signs the request as it is and will be sent. It gives the signature, where
	// it must not be seen in the answer. Errors are a *SignError and those of Apply.
	Sign(r *http.Request, now time.Time) (hidden []byte, err error)
	// Release ends the use of what is held of the request's body.
	Release()
}

// Signs reports whether a rule signs requests.
func Signs(rules []*api.Rule) bool {
	for _, rule := range rules {
		if rule.GetSigv4() != nil || rule.GetHmac() != nil {
			return true
		}
	}
	return false
}

// NewSigning reads material by the one rule that signs.
func NewSigning(rules []*api.Rule, m api.Material) (*Signing, error) {
	s := new(Signing)
	for _, rule := range rules {
		if rule.GetHeader() == nil && rule.GetSigv4() == nil && rule.GetHmac() == nil ||
			strings.Contains(rule.GetHeader().GetTemplate(), tokenSlot) {
			return nil, fmt.Errorf("%w: what signs is not sent", ErrRule)
		}
		if (rule.GetSigv4() != nil || rule.GetHmac() != nil) && (s.keys != nil || s.rule != nil) {
			return nil, fmt.Errorf("%w: it signs twice", ErrRule)
		}
		switch {
		case rule.GetSigv4() != nil:
			keys, err := api.ParseSigV4(m.Token)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrMaterial, err)
			}
			s.keys = keys
		case rule.GetHmac() != nil:
			s.rule, s.key = rule.GetHmac(), m.Token
		}
	}
	return s, nil
}

// Once reports whether what a request bears is of no use to another: signatures
// are seen in answers only once then, and parts of them don't add up.
func (s *Signing) Once() bool { return s.keys != nil }

// Lasting is the text on the wire that more than one request bears, if any does: it
// must not be seen in an answer. Of HMAC it is the key, which no request bears.
func (s *Signing) Lasting() []byte {
	if s.keys != nil {
		return s.keys.SessionToken
	}
	return s.key
}

// Begin gives what signs a request. It reads the client's own signature, and so
// comes before Clear.
func (s *Signing) Begin(r *http.Request, budget *Budget) Signer {
	if s.keys != nil {
		return &v4Signer{keys: s.keys, claim: claimV4(r), loan: loan{budget: budget}}
	}
	return &hmacSigner{rule: s.rule, key: s.key, loan: loan{budget: budget}}
}

// Wipe overwrites the keys.
func (s *Signing) Wipe() {
	if s.keys != nil {
		s.keys.Wipe()
	}
	clear(s.key)
}
