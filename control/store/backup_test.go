package store

import (
	"bytes"
	"context"
	"log/slog"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sallyport/control"
	"sallyport/control/embedded"
	"sallyport/control/identity"
	"sallyport/control/seal"
)

// TestBackup dumps a database, restores it into another cluster and opens what is in it
// with the file of the key-encryption key and nothing else.
func TestBackup(t *testing.T) {
	f := newFixture(t)
	file := filepath.Join(t.TempDir(), "kek")
	kek := got(seal.OpenFileKEK(t.Context(), file, f.Store))(t)
	authority := got(identity.Load(t.Context(), f.Store, kek, time.Now))(t)
	before := sealed{f, seal.New(kek)}
	defer before.sealer.Close()
	v := before.sealedVault("prod")
	c := before.add(v, "stripe", "first")
	before.rotate(v, c, "second")

	var dump bytes.Buffer
	pgDump := exec.Command("pg_dump", f.pool.Config().ConnString())
	pgDump.Stdout = &dump
	if err := pgDump.Run(); err != nil {
		t.Fatal(err)
	}
	other := got(embedded.Start(t.Context(), t.TempDir(), slog.New(slog.DiscardHandler)))(t)
	defer other.Stop(context.Background())
	role := "create role sallyport_app nologin; "
	restore := exec.Command("psql", "--quiet", "--set", "ON_ERROR_STOP=1", "--output", "/dev/null", other.URL())
	restore.Stdin = bytes.NewReader(append([]byte(role), dump.Bytes()...))
	if said, err := restore.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}

	s := open(t, other.URL())
	again := got(seal.OpenFileKEK(t.Context(), file, s))(t)
	if ca := got(identity.Load(t.Context(), s, again, time.Now))(t); !bytes.Equal(ca.Certificate(), authority.Certificate()) {
		t.Error("the control CA is another one")
	}
	sealer := seal.New(again)
	defer sealer.Close()
	key := got(s.VaultKey(t.Context(), f.Team.ID, v.ID))(t)
	for version, want := range map[int64]string{1: "first", 2: "second"} {
		id := control.SecretIdentity{Team: f.Team.ID, Vault: v.ID, Credential: c.ID, Version: version, Field: control.FieldSecret}
		stored := got(s.SealedVersion(t.Context(), f.Team.ID, c.ID, version))(t)
		if secret := got(sealer.Open(t.Context(), key, id, stored))(t); string(secret) != want {
			t.Errorf("version %d is %q", version, string(secret))
		}
	}
	// It goes on there: with the roles and rows that it needs.
	restored := sealed{&fixture{Store: s, t: t, Team: f.Team, pool: superuser(t, other.URL())}, sealer}
	restored.add(restored.sealedVault("more"), "github", "third")
	if _, err := seal.OpenFileKEK(t.Context(), filepath.Join(t.TempDir(), "kek"), s); err == nil {
		t.Error("a new key was made for the restored database")
	}
}
