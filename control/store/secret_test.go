package store

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
	"sallyport/control/seal"
)

// sealed is a fixture whose secrets are really sealed.
type sealed struct {
	*fixture
	sealer *seal.Sealer
}

func newSealed(t *testing.T) sealed {
	t.Helper()
	f := newFixture(t)
	kek := got(seal.OpenFileKEK(t.Context(), filepath.Join(t.TempDir(), "kek"), f.Store))(t)
	sealer := seal.New(kek)
	t.Cleanup(sealer.Close)
	return sealed{f, sealer}
}

func (f sealed) sealedVault(name string) control.Vault {
	f.t.Helper()
	v := control.Vault{ID: NewID(), Name: name}
	key := got(f.sealer.NewDataKey(f.t.Context(), f.Team.ID, v.ID))(f.t)
	return got(f.CreateVault(f.t.Context(), f.Team.ID, v, key, testAct()))(f.t)
}

func (f sealed) seal(v control.Vault, credentialID string, version int64, value string) control.SealedSecret {
	f.t.Helper()
	key := got(f.VaultKey(f.t.Context(), f.Team.ID, v.ID))(f.t)
	id := control.SecretIdentity{Team: f.Team.ID, Vault: v.ID, Credential: credentialID, Version: version, Field: control.FieldSecret}
	return got(f.sealer.Seal(f.t.Context(), key, id, control.Secret(value)))(f.t)
}

func (f sealed) add(v control.Vault, name, value string) control.Credential {
	f.t.Helper()
	c := credential(name, name+".example.com")
	c, _, err := f.CreateCredential(f.t.Context(), f.Team.ID, v.ID, c, f.seal(v, c.ID, 1, value), testAct())
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

func (f sealed) rotate(v control.Vault, c control.Credential, value string) {
	f.t.Helper()
	_, _, err := f.RotateCredential(f.t.Context(), f.Team.ID, c.ID, c.Version, f.seal(v, c.ID, c.Version+1, value), testAct())
	if err != nil {
		f.t.Fatal(err)
	}
}

// TestSwappedRowsDoNotOpen swaps the sealed parts of any two rows, within a
// credential, a vault, a team and across teams.
func TestSwappedRowsDoNotOpen(t *testing.T) {
	f := newSealed(t)
	type row struct {
		id      control.SecretIdentity
		value   string
		version control.SealedSecret
	}
	var rows []row
	for _, team := range []sealed{f, {f.another("other"), f.sealer}} {
		for _, vault := range []string{"a", "b"} {
			v := team.sealedVault(vault)
			for _, name := range []string{"x", "y"} {
				value := fmt.Sprintf("secret of %s %s/%s", team.Team.Name, vault, name)
				c := team.add(v, name, value+" 1")
				team.rotate(v, c, value+" 2")
				for version := int64(1); version <= 2; version++ {
					rows = append(rows, row{
						control.SecretIdentity{Team: team.Team.ID, Vault: v.ID, Credential: c.ID, Version: version, Field: control.FieldSecret},
						fmt.Sprintf("%s %d", value, version),
						got(f.SealedVersion(t.Context(), team.Team.ID, c.ID, version))(t),
					})
				}
			}
		}
	}
	for i, place := range rows {
		key := got(f.VaultKey(t.Context(), place.id.Team, place.id.Vault))(t)
		for j, content := range rows {
			secret, err := f.sealer.Open(t.Context(), key, place.id, content.version)
			if i == j && (err != nil || string(secret) != place.value) {
				t.Errorf("a row in its place: %v", err)
			}
			if i != j && err == nil {
				t.Errorf("%q opened in the place of %q", content.value, place.value)
			}
		}
	}
}

func TestShreddedVaultDoesNotOpen(t *testing.T) {
	f := newSealed(t)
	v := f.sealedVault("prod")
	c := f.add(v, "stripe", "secret")
	old := got(f.SealedVersion(t.Context(), f.Team.ID, c.ID, 1))(t)
	got(f.DeleteVault(t.Context(), f.Team.ID, "prod", testAct()))(t)
	_, err := f.VaultKey(t.Context(), f.Team.ID, v.ID)
	wantCode(t, err, control.CodeNotFound)
	again := f.sealedVault("prod") // the name comes back, the key does not
	key := got(f.VaultKey(t.Context(), f.Team.ID, again.ID))(t)
	id := control.SecretIdentity{Team: f.Team.ID, Vault: again.ID, Credential: c.ID, Version: 1, Field: control.FieldSecret}
	if _, err := f.sealer.Open(t.Context(), key, id, old); err == nil {
		t.Error("a secret of a deleted vault opened")
	}
}

// TestDumpHoldsNoSecret looks for the canary in all that Postgres would give away.
func TestDumpHoldsNoSecret(t *testing.T) {
	const canary = "canary-6f1d0a9c4b7e"
	url := newDatabase(t)
	var logged bytes.Buffer
	s, err := Open(t.Context(), url, slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	kek := got(seal.OpenFileKEK(t.Context(), filepath.Join(t.TempDir(), "kek"), s))(t)
	sealer := seal.New(kek)
	defer sealer.Close()
	f := sealed{&fixture{Store: s, t: t, Team: got(s.CreateTeam(t.Context(), "default", testAct()))(t), pool: superuser(t, url)}, sealer}
	v := f.sealedVault("prod")
	c := f.add(v, "stripe", canary+"-1")
	f.rotate(v, c, canary+"-2")
	f.agent("billing", "prod")
	b := f.sandbox("billing")
	got(f.grant(b.ID, c.ID, 2))(t)
	got(f.AppendEvents(t.Context(), f.Team.ID, b.ID, []Report{report(1, "r")}))(t)

	minted := credential("stripe.key.1", "stripe.example.com")
	if _, err := f.Capture(t.Context(), Capture{
		TeamID: f.Team.ID, SandboxID: b.ID, CredentialID: c.ID, Version: 2, OriginID: c.ID,
		Secrets: []NewSecret{{Credential: minted, Secret: f.seal(v, minted.ID, 1, canary+"-3"), TTL: time.Hour}},
	}); err != nil {
		t.Fatal(err)
	}

	bound := got(f.Bound(t.Context(), f.Team.ID, b.ID, c.ID, 2))(t)
	if secret := got(sealer.Open(t.Context(), bound.Key, bound.Identity, bound.Secret))(t); string(secret) != canary+"-2" {
		t.Fatal("the canary did not come back, so the search would prove nothing")
	}
	dump, err := exec.Command("pg_dump", url).CombinedOutput()
	if err != nil {
		t.Fatalf("pg_dump: %v\n%s", err, dump)
	}
	if !bytes.Contains(dump, []byte("billing")) {
		t.Fatal("the dump is not of our data")
	}
	for name, text := range map[string]string{"dump": string(dump), "log": logged.String(), "bound": fmt.Sprintf("%+v", bound)} {
		forms := []string{canary, hex.EncodeToString([]byte(canary))}
		for shift := range 3 { // base64, wherever it begins; the characters at its ends depend on what is beside
			for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
				forms = append(forms, encoding.EncodeToString([]byte(strings.Repeat(" ", shift) + canary))[4:24])
			}
		}
		for _, form := range forms {
			if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
				t.Errorf("the %s holds the canary as %s", name, form)
			}
		}
	}
}

// TestWrongStates writes what must not be, past all of our code.
func TestWrongStates(t *testing.T) {
	f := newFixture(t)
	v := f.vault("prod")
	c := f.credential(v, "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	b := f.sandbox("billing")
	thief := f.another("thief")
	thief.agent("thief")
	for name, sql := range map[string]string{
		"a current version that is not there": `update credentials set version = 9`,
		"another team's credential":           `update credentials set team_id = '` + thief.Team.ID + `'`,
		"a pin across teams":                  `insert into pins (team_id, agent_id, vault_id) select a.team_id, a.id, v.id from agents a, vaults v where a.name = 'thief'`,
		"a vault without its team":            `update vaults set team_id = gen_random_uuid()`,
		"a secret without its vault's key":    `delete from vault_keys`,
		"an enrolled sandbox without keys":    `update sandboxes set seal_key = null`,
		"a pending sandbox with keys":         `update sandboxes set state = 'pending'`,
		"a state of no kind":                  `update sandboxes set state = 'free'`,
		"a lease that ends before it is old":  `insert into leases values (gen_random_uuid(), '` + f.Team.ID + `', '` + b.ID + `', '` + c.ID + `', 1, '', now(), now() + interval '2s', now())`,
		"a short hash":                        `insert into tokens (id, name, role, hash) values (gen_random_uuid(), 'x', 'owner', 'short')`,
		"a revision that is none":             `update teams set revision = 0`,
		"a host in capitals":                  `update credential_hosts set pattern = 'API.stripe.com'`,
	} {
		t.Run(name, func(t *testing.T) {
			err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error { _, err := tx.Exec(t.Context(), sql); return err })
			if err == nil {
				t.Error("it was stored")
			}
		})
	}
}
