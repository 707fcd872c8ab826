package admin

import (
	"context"
	"time"

	"sallyport/control"
	"sallyport/control/exchange"
	"sallyport/control/external"
	"sallyport/control/store"
)

// createReference makes a credential whose secret lies in a source. It is read there
// once, so that what can't be used is told now.
func (s *Server) createReference(ctx context.Context, in *VaultPath, c control.Credential, body *newCredential) (*tagged[control.Credential], error) {
	if body.Secret.Secret != nil {
		return nil, control.Errorf(control.CodeInvalid, "give the secret, or from where it lies, and not both")
	}
	team := teamOf(ctx).ID
	vault, err := s.Store.Vault(ctx, team, in.Vault)
	if err != nil {
		return nil, err
	}
	source, err := s.Store.Source(ctx, team, in.Vault, c.From.Source)
	if err != nil {
		return nil, err
	}
	value, err := s.Secrets.Read(ctx, c, source)
	if err != nil {
		return nil, err
	}
	defer value.Secret.Wipe()
	c.ID, c.Vault, c.Version, c.FromVersion = store.NewID(), vault.Name, 1, value.Version
	wanted := c
	id := control.SecretIdentity{Team: team, Vault: vault.ID, Credential: c.ID, Version: c.Version}
	seal := func(key control.WrappedKey) (control.SealedSecret, error) {
		return s.Secrets.Seal(ctx, key, id, value.Secret)
	}
	err = s.sealingBy(ctx, vault.ID, seal, func(sealed control.SealedSecret) (err error) {
		act := act(ctx, "credential.create", wanted.Vault+"/"+wanted.Name+" from "+external.At(*wanted.From, value.Version))
		c, _, err = s.Store.CreateCredential(ctx, team, vault.ID, wanted, sealed, act)
		return err
	})
	tag := credentialTag(c)
	c.Warning = exchange.Weakness(c, value.Secret)
	return versioned(c, tag, err)
}

// refreshCredential reads a secret that lies in a source, whoever has read it just now,
// and makes a version of it.
func (s *Server) refreshCredential(ctx context.Context, in *rotatePath) (*answer[control.Rotation], error) {
	wait, err := parseWait(in.Wait)
	if err != nil {
		return nil, err
	}
	bound, err := s.Store.Current(ctx, teamOf(ctx).ID, in.Vault, in.Credential)
	if err != nil {
		return nil, err
	}
	c := bound.Credential
	if bound.Source == nil {
		return nil, control.Errorf(control.CodeConflict, "the secret of %s/%s lies here: store another with 'sallyport credential rotate'", c.Vault, c.Name)
	}
	value, err := s.Secrets.Read(ctx, c, *bound.Source)
	if err != nil {
		return nil, err
	}
	defer value.Secret.Wipe()
	version, revision, err := s.Secrets.Refresh(ctx, bound, value, act(ctx, "credential.refresh", c.Vault+"/"+c.Name+" from "+external.At(*c.From, value.Version)))
	if err != nil {
		return nil, err
	}
	start := time.Now()
	return one(s.propagated(ctx, c.ID, control.Rotation{Version: version, Revision: revision, Warning: exchange.Weakness(c, value.Secret)}, start, wait))
}

// resealReference is reseal for a secret that lies in a source.
func (s *Server) resealReference(ctx context.Context, bound store.Bound, becomes control.Credential) (control.SealedSecret, error) {
	value, err := s.Secrets.Read(ctx, becomes, *bound.Source)
	if err != nil {
		return control.SealedSecret{}, err
	}
	value.Secret.Wipe()
	key, err := s.Store.VaultKey(ctx, bound.Identity.Team, bound.Identity.Vault)
	if err != nil {
		return control.SealedSecret{}, err
	}
	return s.Secrets.Reseal(ctx, bound, key)
}
