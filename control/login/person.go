package login

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"sallyport/control"
)

// claims are what an issuer says of a person, by name.
type claims map[string]json.RawMessage

// person checks the ID token and gives whom it is about, with their roles.
func (i *Issuer) person(ctx context.Context, p *oidc.Provider, tokens *oauth2.Token, nonce string) (control.Person, error) {
	raw, _ := tokens.Extra("id_token").(string)
	if raw == "" {
		return control.Person{}, i.distrust("it sent no ID token")
	}
	// Signature, algorithm, issuer, audience and expiry.
	id, err := p.Verifier(&oidc.Config{ClientID: i.ClientID}).Verify(i.context(ctx), raw)
	if err != nil {
		return control.Person{}, i.distrust(err.Error())
	}
	if nonce != "" && id.Nonce != nonce {
		return control.Person{}, i.distrust("the ID token is of another login: its nonce is not ours")
	}
	said := claims{}
	if err := id.Claims(&said); err != nil {
		return control.Person{}, i.distrust(err.Error())
	}
	if azp := said.text("azp"); azp != i.ClientID && (azp != "" || len(id.Audience) > 1) {
		return control.Person{}, i.distrust("the ID token was made for another client")
	}
	who := control.Person{Issuer: i.Issuer, Subject: id.Subject}
	if who.Subject == "" || len(who.Subject) > 255 || strings.ContainsFunc(who.Subject, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return who, i.distrust("the subject is not 1 to 255 visible ASCII characters")
	}
	if err := i.complete(ctx, p, tokens, who.Subject, said); err != nil {
		return who, err
	}
	if who.Email, err = i.email(said); err != nil {
		return who, err
	}
	who.Grants, err = i.grants(who.Email, said)
	return who, err
}

// distrust is the error of an issuer that does not do what it should, or of somebody
// who stands in its place. Why is for the log.
func (i *Issuer) distrust(why string) error {
	i.log.Warn("the OIDC issuer's answer is not trusted", "issuer", i.Issuer, "error", why)
	return control.Errorf(control.CodeUnauthorized, "the answer of the OIDC issuer is not trusted: the log of the control plane says why")
}

// complete adds what only the UserInfo endpoint says (OpenID Connect Core 5.3).
func (i *Issuer) complete(ctx context.Context, p *oidc.Provider, tokens *oauth2.Token, subject string, said claims) error {
	if said["email"] != nil && said[i.GroupsClaim] != nil || p.UserInfoEndpoint() == "" {
		return nil
	}
	info, err := p.UserInfo(i.context(ctx), oauth2.StaticTokenSource(tokens))
	if err != nil {
		return i.away(err)
	}
	if info.Subject != subject {
		return i.distrust("its UserInfo is of somebody else")
	}
	more := claims{}
	if err := info.Claims(&more); err != nil {
		return i.distrust(err.Error())
	}
	if said["email"] == nil { // both from one place: a verified address is not another's
		said["email"], said["email_verified"] = more["email"], more["email_verified"]
	}
	if said[i.GroupsClaim] == nil {
		said[i.GroupsClaim] = more[i.GroupsClaim]
	}
	return nil
}

func (c claims) text(name string) string {
	var s string
	if json.Unmarshal(c[name], &s) != nil {
		return ""
	}
	return s
}

// emailForm is an address without quoting, of which there is one spelling.
var emailForm = regexp.MustCompile("^[A-Za-z0-9.!#$%&'*+=?^_`{|}~-]{1,64}@([A-Za-z0-9-]{1,63}[.])*[A-Za-z0-9-]{1,63}$")

// email is the person's address, which the issuer has verified.
func (i *Issuer) email(said claims) (string, error) {
	email := said.text("email")
	if len(email) > 254 || !emailForm.MatchString(email) {
		return "", control.Errorf(control.CodeForbidden, "the OIDC issuer gives no email address for you, or one of an unusual form: ask whoever runs it")
	}
	var verified any
	if json.Unmarshal(said["email_verified"], &verified) != nil || verified != true && verified != "true" { // some send a string
		return "", control.Errorf(control.CodeForbidden, "the OIDC issuer has not verified your email address %s: verify it there, then log in again", email)
	}
	_, domain, _ := strings.Cut(email, "@")
	if len(i.Domains) > 0 && !slices.ContainsFunc(i.Domains, func(d string) bool { return strings.EqualFold(d, domain) }) {
		return "", control.Errorf(control.CodeForbidden, "addresses at %s may not log in here: use one at %s", domain, strings.Join(i.Domains, " or "))
	}
	return email, nil
}
