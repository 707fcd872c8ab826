package store

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

func TestVaultAndCredential(t *testing.T) {
	f := newFixture(t)
	v := f.vault("prod")
	key := got(f.VaultKey(t.Context(), f.Team.ID, v.ID))(t)
	if key.KEK != "kek" || key.Version != 1 || string(key.Blob) != "blob of prod" {
		t.Errorf("the data key came back as %+v", key)
	}
	before := f.revision()
	c := credential("stripe", "API.Stripe.com.", "api.stripe.com:443", "*.stripe.com:8443")
	c.Username, c.Service, c.AllowHTTP = "me", "stripe", true
	sealed := secret()
	created, revision, err := f.CreateCredential(t.Context(), f.Team.ID, v.ID, c, sealed, testAct())
	if err != nil {
		t.Fatal(err)
	}
	if revision != before+1 {
		t.Errorf("revision %d after %d", revision, before)
	}
	if want := "[api.stripe.com *.stripe.com:8443]"; fmt.Sprint(created.Hosts) != want {
		t.Errorf("hosts %v, want %s", created.Hosts, want)
	}
	if created.Vault != "prod" || created.Version != 1 || created.Username != "me" || !created.AllowHTTP || created.Inject[0].String() != "bearer" || created.CreatedAt.IsZero() {
		t.Errorf("created %+v", created)
	}
	read := got(f.SealedVersion(t.Context(), f.Team.ID, c.ID, 1))(t)
	if !bytes.Equal(read.Salt, sealed.Salt) || !bytes.Equal(read.Ciphertext, sealed.Ciphertext) {
		t.Errorf("the secret came back as %+v", read)
	}
	_, _, err = f.CreateCredential(t.Context(), f.Team.ID, v.ID, credential("stripe", "other.test"), secret(), testAct())
	wantCode(t, err, control.CodeConflict, "stripe")
	_, _, err = f.CreateCredential(t.Context(), f.Team.ID, v.ID, credential("none"), secret(), testAct())
	wantCode(t, err, control.CodeInvalid, "host")
	_, _, err = f.CreateCredential(t.Context(), f.Team.ID, v.ID, credential("bad", "10.0.0.1"), secret(), testAct())
	wantCode(t, err, control.CodeInvalid, "10.0.0.1")
	if f.revision() != revision {
		t.Error("a refused change moved the revision")
	}
}

func TestRotate(t *testing.T) {
	f := newFixture(t)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	version, revision, err := f.RotateCredential(t.Context(), f.Team.ID, c.ID, 1, secret(), testAct())
	if err != nil || version != 2 || revision != f.revision() {
		t.Fatalf("version %d, revision %d, %v", version, revision, err)
	}
	_, _, err = f.RotateCredential(t.Context(), f.Team.ID, c.ID, 1, secret(), testAct())
	wantCode(t, err, control.CodeConflict, "version 2")
	after := got(f.Credential(t.Context(), f.Team.ID, "prod", "stripe"))(t)
	if after.Version != 2 || !after.RotatedAt.After(c.RotatedAt) {
		t.Errorf("after the rotation: %+v", after)
	}

	reused := secret()
	reused.Salt = got(f.SealedVersion(t.Context(), f.Team.ID, c.ID, 1))(t).Salt
	if _, _, err := f.RotateCredential(t.Context(), f.Team.ID, c.ID, 2, reused, testAct()); err == nil {
		t.Error("a salt was used twice")
	}
}

func TestDeletedVaultLeavesNothing(t *testing.T) {
	f := newFixture(t)
	f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	before := f.revision()
	if revision := got(f.DeleteVault(t.Context(), f.Team.ID, "prod", testAct()))(t); revision != before+1 {
		t.Errorf("revision %d after %d", revision, before)
	}
	for _, table := range []string{"vaults", "vault_keys", "credentials", "credential_versions", "credential_hosts", "pins"} {
		n := got(one(t.Context(), f.pool, table, pgx.RowTo[int], "select count(*) from "+table))(t)
		if n != 0 {
			t.Errorf("%d rows remain in %s", n, table)
		}
	}
	if a := got(f.Agent(t.Context(), f.Team.ID, "billing"))(t); len(a.Vaults) != 0 {
		t.Errorf("the agent still has %v", a.Vaults)
	}
	_, err := f.DeleteVault(t.Context(), f.Team.ID, "prod", testAct())
	wantCode(t, err, control.CodeNotFound, "prod")
}
