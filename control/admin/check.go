package admin

import (
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"sallyport/control"
	"sallyport/control/api"
)

const (
	maxHosts = 64 // of a credential
	maxRules = 16 // of a credential
)

// credential is what body asks for, complete and checked but for its secret.
func (s *Server) credential(body *newCredential) (control.Credential, error) {
	c := control.Credential{
		Name: body.Name, Service: body.Service, Hosts: body.Hosts, AllowHTTP: body.AllowHTTP,
		Auth: body.Auth, Username: body.Username, Settings: body.Settings, From: body.From, Inject: body.Inject, Stray: body.Stray, RotateEvery: body.RotateEvery,
		Placeholders: []string{"vault:" + body.Name},
	}
	if body.AllowWebsocket != nil {
		c.AllowWebsocket = *body.AllowWebsocket
	} else if service, ok := s.Services.Service(c.Service); ok {
		c.AllowWebsocket = service.AllowWebsocket
	}
	if err := control.CheckName("credential", c.Name); err != nil {
		return c, err
	}
	if err := s.fromService(&c); err != nil {
		return c, err
	}
	fillIn(&c)
	var err error
	if c.Hosts, err = checkHosts(c.Hosts); err != nil {
		return c, err
	}
	if err := s.checkAuth(c); err != nil {
		return c, err
	}
	if err := checkRules(c); err != nil {
		return c, err
	}
	if c.Limits, err = body.Limits.apply(control.Limits{}); err != nil {
		return c, err
	}
	c.Mints, err = checkMints(body.Mints)
	return c, err
}

// checkMints gives the rules with their hosts in their normal form.
func checkMints(mints []control.Mint) ([]control.Mint, error) {
	if len(mints) > control.MaxMints {
		return nil, control.Errorf(control.CodeInvalid, "the credential has more than %d mint rules", control.MaxMints)
	}
	normal := make([]control.Mint, 0, len(mints))
	for _, m := range mints {
		if _, err := api.ParseMintPath(m.Path); err != nil {
			return nil, control.Errorf(control.CodeInvalid, "the mint rule %q: %v", m, err)
		}
		if len(m.Hosts) > 0 {
			var err error
			if m.Hosts, err = checkHosts(m.Hosts); err != nil {
				return nil, control.Errorf(control.CodeInvalid, "the mint rule %q: %v", m, err)
			}
		}
		normal = append(normal, m)
	}
	return normal, nil
}

// fromService fills what c leaves open from the service that it names.
func (s *Server) fromService(c *control.Credential) error {
	if c.Service == "" {
		return nil
	}
	service, ok := s.Services.Service(c.Service)
	if !ok {
		return control.Errorf(control.CodeInvalid, "the service %q is not known; 'sallyport service list' and GET /v1/services list those that are; or give hosts and rules instead", c.Service)
	}
	if len(c.Hosts) == 0 {
		c.Hosts = service.Hosts
	}
	if c.Auth == "" {
		c.Auth = service.Auth
	}
	if len(c.Inject) == 0 && c.Auth == service.Auth {
		c.Inject = service.Inject
	}
	if c.Username == "" && c.Auth == control.AuthBasic {
		c.Username = service.Username
	}
	if c.Stray == "" {
		c.Stray = service.Stray
	}
	c.Placeholders = append(c.Placeholders, service.Placeholders...)
	return nil
}

// fillIn gives what is still open its usual value.
func fillIn(c *control.Credential) {
	basic := slices.ContainsFunc(c.Inject, func(r control.Rule) bool { return r.Kind == control.RuleBasic })
	if c.Auth == "" && c.Username != "" && (basic || len(c.Inject) == 0) {
		c.Auth = control.AuthBasic
	}
	if c.Auth == "" {
		c.Auth = control.AuthToken
	}
	if len(c.Inject) == 0 {
		c.Inject = c.Auth.UsualRules()
	}
	if c.Stray == "" {
		c.Stray = control.StrayBlock
	}
}

// checkHosts gives the hosts in their normal form.
func checkHosts(hosts []string) ([]string, error) {
	switch {
	case len(hosts) == 0:
		return nil, control.Errorf(control.CodeInvalid, "the credential needs a service, or at least one host that it may be sent to")
	case len(hosts) > maxHosts:
		return nil, control.Errorf(control.CodeInvalid, "the credential has more than %d hosts", maxHosts)
	}
	normal := make([]string, 0, len(hosts))
	for _, h := range hosts {
		p, err := api.ParseHostPattern(h)
		if err != nil {
			return nil, control.Errorf(control.CodeInvalid, "%s", err)
		}
		if sharedByStrangers(p) {
			return nil, control.Errorf(control.CodeInvalid, "host %q: anybody can have a name under the public suffix %q; name the hosts one by one", h, p.Name())
		}
		if slices.Contains(normal, p.String()) {
			return nil, control.Errorf(control.CodeInvalid, "host %q is there twice", p)
		}
		normal = append(normal, p.String())
	}
	return normal, nil
}

// sharedByStrangers reports whether the pattern's name is on the public suffix list, or
// the names below it are. A single label that is not on it is somebody's own network, and
// s3.eu-west-1.amazonaws.com by itself a service's endpoint, whoever has names below it.
func sharedByStrangers(p api.HostPattern) bool {
	suffix, icann := publicsuffix.PublicSuffix(p.Name())
	if !icann && !p.Wildcard() && strings.Count(p.Name(), ".") >= 2 {
		return false
	}
	if suffix == p.Name() && (icann || strings.Contains(suffix, ".") || p.Wildcard()) {
		return true
	}
	below := "any." + p.Name()
	suffix, _ = publicsuffix.PublicSuffix(below)
	return p.Wildcard() && suffix == below
}

func (s *Server) checkAuth(c control.Credential) error {
	switch c.Stray {
	case control.StrayBlock, control.StrayLiteral, control.StrayRedact:
	default:
		return control.Errorf(control.CodeInvalid, "stray must be block, literal or redact")
	}
	return s.Exchange.Check(c)
}

func checkRules(c control.Credential) error {
	if len(c.Inject) > maxRules {
		return control.Errorf(control.CodeInvalid, "the credential has more than %d inject rules", maxRules)
	}
	if err := c.Auth.CheckRules(c.Inject); err != nil {
		return err
	}
	if !slices.ContainsFunc(c.Inject, control.Rule.Holds) {
		return control.Errorf(control.CodeInvalid, "no inject rule puts the secret anywhere; one needs {{token}}")
	}
	taken := make(map[string]control.Rule)
	for _, r := range c.Inject {
		if r.Kind == control.RuleBasic && c.Auth != control.AuthBasic {
			return control.Errorf(control.CodeInvalid, "the inject rule basic needs auth basic and a username")
		}
		if r.Kind == control.RuleDefault && api.CarriesKey(api.FoldField(nil, r.Name)) {
			return control.Errorf(control.CodeInvalid, "the inject rule %q: clients send keys in %s, so the client's own is never kept; use header:NAME: TEMPLATE", r, r.Name)
		}
		if first, twice := taken[place(r)]; twice {
			return control.Errorf(control.CodeInvalid, "the inject rules %q and %q write to the same place", first, r)
		}
		taken[place(r)] = r
	}
	return nil
}

// place is where a rule writes, in the one spelling of all that servers take for it.
func place(r control.Rule) string {
	switch r.Kind {
	case control.RuleBasic, control.RuleSigV4:
		return "header authorization"
	case control.RuleHeader, control.RuleDefault:
		return "header " + string(api.FoldField(nil, r.Name))
	}
	return string(r.Kind) + " " + r.Name
}
