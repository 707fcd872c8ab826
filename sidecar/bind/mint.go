package bind

import (
	"fmt"
	"slices"

	"sallyport/control/api"
)

// RefusedMintError is a request that would make the service hand out a new secret.
type RefusedMintError struct {
	Vault, Name string // of the credential
	Rule        *api.Mint
}

func (e *RefusedMintError) Error() string {
	return fmt.Sprintf("the rule '%s' of the credential %s refuses requests that make new secrets", e.Rule.GetRule(), e.Vault+"/"+e.Name)
}

// mint is an api.Mint, ready to be asked.
type mint struct {
	*api.Mint
	path api.MintPath
}

func newMints(b *api.Binding) ([]mint, error) {
	var mints []mint
	for _, m := range b.GetMints() {
		if err := api.CheckMint(m); err != nil {
			return nil, fmt.Errorf("the mint rule '%s': %w; a newer sidecar may know more", m.GetRule(), err)
		}
		path, err := api.ParseMintPath(m.GetPath())
		if err != nil {
			return nil, err
		}
		mints = append(mints, mint{m, path})
	}
	return mints, nil
}

// Mints reports whether any request with the binding could make a new secret.
func Mints(b *api.Binding) bool {
	return slices.ContainsFunc(b.GetMints(), (*api.Mint).MayMint)
}

// Mint gives the rule for the new secrets that the request, with the binding,
// makes the service hand out, nil if it makes none or the agent may see them.
// Rules are read broadly, but for one that allows. Its errors are a
// *RefusedMintError, and ErrPath if some server could take the path for one of a
// rule's.
func (p Permitted) Mint(b *api.Binding) (*api.Mint, error) {
	if p.table == nil {
		return nil, nil // nothing was permitted, and there is no binding
	}
	method, path := p.request.Method, p.request.Path
	var segments []string
	var crooked error
	read := false
	for _, m := range p.table.mints[b.GetCredentialId()] {
		if !m.takes(method) {
			continue
		}
		if !read { // most requests are of no rule's method
			segments, crooked = api.PathSegments(path)
			read = true
		}
		switch {
		case crooked != nil && m.MayMint() && m.path.Could(path):
			return nil, fmt.Errorf("%w: %w", ErrPath, crooked)
		case crooked != nil || !m.path.Match(segments, m.MayMint()):
			continue
		case m.GetAction() == api.MintAction_MINT_ACTION_ALLOW:
			return nil, nil
		case m.GetAction() == api.MintAction_MINT_ACTION_REFUSE:
			return nil, &RefusedMintError{Vault: b.GetVault(), Name: b.GetName(), Rule: m.Mint}
		default:
			return m.Mint, nil
		}
	}
	return nil, nil
}

// takes reports whether the rule is about a method. What GET answers, HEAD does.
func (m mint) takes(method string) bool {
	methods := m.GetMethods()
	return len(methods) == 0 || slices.Contains(methods, method) || method == "HEAD" && slices.Contains(methods, "GET")
}

// Captured are the bindings of captured credentials that could serve the request.
// Which of them does, if any, is for the request to say.
func (p Permitted) Captured() []*api.Binding {
	if p.table == nil {
		return nil // nothing was permitted
	}
	return p.table.capturedAt(p.request.Host, p.request.Port, p.request.TLS)
}

func (t *Table) capturedAt(host string, port uint16, tls bool) []*api.Binding {
	if len(t.captured) == 0 {
		return nil
	}
	found := t.captured[place{name: host, port: port, tls: tls}]
	if suffix, ok := parent(host); ok {
		found = slices.Concat(found, t.captured[place{name: suffix, port: port, wildcard: true, tls: tls}])
	}
	return found
}

// CapturedPlaceholders are the literals that stand for captured credentials. The
// slice is the table's own.
func (t *Table) CapturedPlaceholders() []string { return t.capturedPlaceholders }
