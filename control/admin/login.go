package admin

import (
	"context"

	"sallyport/control"
	"sallyport/control/exchange"
)

// newLogin is what a browser brought back to whoever logs in for a credential.
type newLogin struct {
	Code        secret `json:"code" doc:"The authorization code (RFC 6749 section 4.1.2)"`
	Verifier    secret `json:"code_verifier" doc:"Whose S256 challenge the code was asked for with (RFC 7636)"`
	RedirectURI string `json:"redirect_uri" maxLength:"512" doc:"Where the code was sent, on loopback or credential_redirect_uri of GET /v1/info"`
}

// Wipe overwrites what is secret.
func (l *newLogin) Wipe() {
	l.Code.Wipe()
	l.Verifier.Wipe()
}

// loginCredential stores what a person has allowed: a new version, like a rotation. Who
// logs in sees no token.
func (s *Server) loginCredential(ctx context.Context, in *CredentialPath, body *newLogin) (*answer[control.Rotation], error) {
	defer body.Wipe()
	for _, part := range []control.Secret{body.Code.Secret, body.Verifier.Secret} {
		if err := control.CheckSecret(part); err != nil {
			return nil, control.Errorf(control.CodeInvalid, "code and code_verifier: %v", err)
		}
	}
	team := teamOf(ctx).ID
	bound, err := s.Store.Current(ctx, team, in.Vault, in.Credential)
	if err != nil {
		return nil, err
	}
	if bound.Source != nil {
		return nil, control.Errorf(control.CodeInvalid, "a login is for auth %s, whose secret never lies in a source", control.AuthOAuthRefresh)
	}
	c := bound.Credential
	known, err := s.Sealer.Open(ctx, bound.Key, bound.Identity, bound.Secret)
	if err != nil {
		return nil, err
	}
	defer known.Wipe()
	leave, err := s.enterOutward(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	brought, err := s.Exchange.Redeem(ctx, c, known, exchange.Login{Code: body.Code.Secret, Verifier: body.Verifier.Secret, RedirectURI: body.RedirectURI, Console: s.CodesTo})
	if err != nil {
		return nil, err
	}
	defer brought.Wipe()
	sealed, err := s.seal(ctx, bound.Identity.Vault, c.ID, c.Version+1, brought)
	if err != nil {
		return nil, err
	}
	version, revision, err := s.Store.RotateCredential(ctx, team, c.ID, c.Version, sealed, act(ctx, "credential.login", c.Vault+"/"+c.Name))
	return one(control.Rotation{Version: version, Revision: revision}, err)
}
