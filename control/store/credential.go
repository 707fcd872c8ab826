package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
	"sallyport/control/api"
)

// credentialRows is read by scanCredential.
const credentialRows = `
	select c.id, v.name, c.name, c.service,
		coalesce(c.captured_hosts, array(select h.pattern from credential_hosts h where h.credential_id = c.id order by h.position)),
		c.allow_http, c.allow_websocket, c.auth, c.username, c.settings, c.inject, c.stray, c.placeholders, c.version, c.created_at, c.rotated_at,
		coalesce(o.mints, c.mints), coalesce(o.id::text, ''), coalesce(o.name, ''), coalesce(c.sandbox_id::text, ''), c.expires_at,
		coalesce(c.source_place, ''), c.source_version, ` + limitColumns + `, ` + overlapColumns + `, c.rotate_every
	from credentials c join vaults v on v.id = c.vault_id left join credentials o on o.id = c.origin_id `

func scanCredential(row pgx.CollectableRow) (control.Credential, error) {
	var c control.Credential
	var rules, mints []string
	var captured control.Captured
	var expires, ends *time.Time
	var overlap overlapRow
	var place string
	err := row.Scan(&c.ID, &c.Vault, &c.Name, &c.Service, &c.Hosts, &c.AllowHTTP, &c.AllowWebsocket, &c.Auth, &c.Username, &c.Settings,
		&rules, &c.Stray, &c.Placeholders, &c.Version, &c.CreatedAt, &c.RotatedAt,
		&mints, &captured.OriginID, &captured.Origin, &captured.Sandbox, &expires, &place, &c.FromVersion, &c.Limits, &ends, &overlap.version, &overlap.until, &c.RotateEvery)
	if err != nil {
		return c, err
	}
	c.Limits.ExpiresAt = ends
	c.Overlap, c.RotateDue = overlap.read(), c.RotateEvery.Due(c.RotatedAt)
	if place != "" {
		from, err := control.ParsePlace(place)
		if err != nil {
			return c, fmt.Errorf("read a stored place: %w", err)
		}
		c.From = &from
	}
	if expires != nil {
		captured.ExpiresAt = *expires
		c.Captured = &captured
	}
	if c.Inject, err = parse(rules, control.ParseRule); err != nil {
		return c, err
	}
	c.Mints, err = parse(mints, control.ParseMint)
	return c, err
}

// parse reads the rules that were stored as text.
func parse[R any](texts []string, read func(string) (R, error)) ([]R, error) {
	rules := make([]R, len(texts))
	for i, text := range texts {
		var err error
		if rules[i], err = read(text); err != nil {
			return nil, fmt.Errorf("read a stored rule: %w", err)
		}
	}
	return rules, nil
}

// texts are the rules as they are stored.
func texts[R fmt.Stringer](rules []R) []string {
	all := make([]string, len(rules))
	for i, r := range rules {
		all[i] = r.String()
	}
	return all
}

// CreateCredential makes a credential with version 1 of its secret. Its ID is
// the caller's (NewID), since the secret is sealed to it. Its hosts are stored in
// the form of api.HostPattern.String.
func (s *Store) CreateCredential(ctx context.Context, teamID, vaultID string, c control.Credential, secret control.SealedSecret, act control.Event) (created control.Credential, revision int64, err error) {
	hosts, err := normalise(c.Hosts)
	if err != nil {
		return created, 0, err
	}
	revision, err = s.change(ctx, teamID, act, func(tx pgx.Tx) error {
		if err := room(ctx, tx, teamID, "credentials"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
			insert into credentials (id, team_id, vault_id, name, service, allow_http, allow_websocket, auth, username, inject, stray, placeholders, mints, limits, ends_at, settings, rotate_every, version)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, 1)`,
			c.ID, teamID, vaultID, c.Name, c.Service, c.AllowHTTP, c.AllowWebsocket, c.Auth, c.Username, texts(c.Inject), c.Stray, append([]string{}, c.Placeholders...), texts(c.Mints), stored(c.Limits), c.Limits.ExpiresAt, storedSettings(c.Settings), c.RotateEvery)
		if err != nil {
			return interpret(err, fmt.Sprintf("create credential %q", c.Name), "such vault")
		}
		if err := addVersion(ctx, tx, teamID, c.ID, 1, secret); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			insert into credential_hosts (team_id, vault_id, credential_id, pattern, position)
			select $1, $2, $3, pattern, position from unnest($4::text[]) with ordinality as hosts (pattern, position)`, teamID, vaultID, c.ID, hosts)
		if err != nil {
			return interpret(err, "store the credential's hosts", "such vault")
		}
		if err := refuseTie(ctx, tx, teamID, vaultID); err != nil {
			return err
		}
		if err := setSource(ctx, tx, teamID, vaultID, c); err != nil {
			return err
		}
		created, err = one(ctx, tx, "such credential", scanCredential, credentialRows+`where c.team_id = $1 and c.id = $2`, teamID, c.ID)
		return err
	})
	return created, revision, err
}

// storedSettings are settings as a jsonb object, {} for none.
func storedSettings(s control.Settings) control.Settings {
	if s == nil {
		return control.Settings{}
	}
	return s
}

func normalise(hosts []string) ([]string, error) {
	var patterns []string
	for _, host := range hosts {
		p, err := api.ParseHostPattern(host)
		if err != nil {
			return nil, control.Errorf(control.CodeInvalid, "%v", err)
		}
		if !slices.Contains(patterns, p.String()) {
			patterns = append(patterns, p.String())
		}
	}
	if len(patterns) == 0 {
		return nil, control.Errorf(control.CodeInvalid, "the credential needs a host that it may be sent to")
	}
	return patterns, nil
}

func addVersion(ctx context.Context, tx pgx.Tx, teamID, credentialID string, version int64, secret control.SealedSecret) error {
	tag, err := tx.Exec(ctx, `
		insert into credential_versions (team_id, vault_id, credential_id, version, key_version, salt, commitment, ciphertext)
		select team_id, vault_id, id, $3, $4, $5, $6, $7 from credentials where team_id = $1 and id = $2`,
		teamID, credentialID, version, secret.KeyVersion, secret.Salt, secret.Commitment, secret.Ciphertext)
	return must(tag, interpretSeal(err), "store the secret", "such credential")
}

// Credential gives the credential of that name in the vault of that name.
func (s *Store) Credential(ctx context.Context, teamID, vault, name string) (control.Credential, error) {
	return one(ctx, s.in(teamID), fmt.Sprintf("credential %q in vault %q", name, vault), scanCredential,
		credentialRows+`where c.team_id = $1 and v.name = $2 and c.name = $3`, teamID, vault, name)
}

// Credentials lists by name those of the vault of that name.
func (s *Store) Credentials(ctx context.Context, teamID, vault string, page Page) (credentials []control.Credential, next string, err error) {
	if _, err := s.Vault(ctx, teamID, vault); err != nil {
		return nil, "", err
	}
	credentials, err = all(ctx, s.in(teamID), "credentials", scanCredential,
		credentialRows+`where c.team_id = $1 and v.name = $2 and c.name > $3 order by c.name limit $4`, teamID, vault, page.After, page.limit())
	credentials, next = cut(page, credentials, func(c control.Credential) string { return c.Name })
	return credentials, next, err
}

// RotateCredential makes version expectVersion+1, to which secret must have been
// sealed. It is CodeConflict unless expectVersion is the current one.
func (s *Store) RotateCredential(ctx context.Context, teamID, credentialID string, expectVersion int64, secret control.SealedSecret, act control.Event) (version, revision int64, err error) {
	return s.RotateOverlapping(ctx, teamID, credentialID, expectVersion, secret, 0, act)
}

// SetSettings gives a credential other settings. That makes a new version, like
// RotateCredential, since what is injected is another; secret is what was read, sealed
// anew. It is CodeConflict too where an exchange has put another in the place of that.
func (s *Store) SetSettings(ctx context.Context, teamID, credentialID string, expectVersion int64, settings control.Settings, read, secret control.SealedSecret, act control.Event) (version, revision int64, err error) {
	return s.newVersion(ctx, teamID, credentialID, expectVersion, secret, false, act, func(tx pgx.Tx) error {
		if err := unchanged(ctx, tx, teamID, credentialID, expectVersion, read); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `update credentials set settings = $3 where team_id = $1 and id = $2 and origin_id is null`,
			teamID, credentialID, storedSettings(settings))
		return must(tag, err, "set the credential's settings", "such credential that was not captured")
	})
}

// newVersion makes version expectVersion+1, and what change does with it. Unless its
// secret is another, which rotated says, it was rotated when the version before was.
func (s *Store) newVersion(ctx context.Context, teamID, credentialID string, expectVersion int64, secret control.SealedSecret, rotated bool, act control.Event, change func(pgx.Tx) error) (version, revision int64, err error) {
	version = expectVersion + 1
	revision, err = s.change(ctx, teamID, act, func(tx pgx.Tx) error {
		current, err := one(ctx, tx, "such credential", pgx.RowTo[int64],
			`select version from credentials where team_id = $1 and id = $2 for update`, teamID, credentialID)
		if err != nil {
			return err
		}
		if current != expectVersion {
			return control.Errorf(control.CodeConflict, "the credential was rotated at the same time and has version %d now: try again", current)
		}
		if err := addVersion(ctx, tx, teamID, credentialID, version, secret); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			update credentials set version = $3, rotated_at = case when $4 then now() else rotated_at end, overlap_version = null, overlap_until = null
			where team_id = $1 and id = $2`, teamID, credentialID, version, rotated)
		if err != nil {
			return interpret(err, "rotate the credential", "such credential")
		}
		return change(tx)
	})
	return version, revision, err
}

// SetMints gives a credential other rules for new secrets, in running sandboxes
// too, unless may refuses what it is until then; nil allows all. Those of a
// captured one are its origin's.
func (s *Store) SetMints(ctx context.Context, teamID, vault, name string, mints []control.Mint, may func(control.Credential) error, act control.Event) (set control.Credential, revision int64, err error) {
	what := fmt.Sprintf("credential %q in vault %q that was not captured", name, vault)
	revision, err = s.change(ctx, teamID, act, func(tx pgx.Tx) error {
		// The team's row is locked: nobody changes it in between.
		current, err := one(ctx, tx, what, scanCredential, credentialRows+`where c.team_id = $1 and v.name = $2 and c.name = $3 and c.origin_id is null`, teamID, vault, name)
		if err != nil {
			return err
		}
		if may != nil {
			if err := may(current); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `update credentials set mints = $3 where team_id = $1 and id = $2`, teamID, current.ID, texts(mints)); err != nil {
			return interpret(err, "change the credential", what)
		}
		set, err = one(ctx, tx, what, scanCredential, credentialRows+`where c.team_id = $1 and c.id = $2`, teamID, current.ID)
		return err
	})
	return set, revision, err
}

// DeleteCredential deletes a credential with every version of its secret, and
// those that were captured with it.
func (s *Store) DeleteCredential(ctx context.Context, teamID, vault, name string, act control.Event) (revision int64, err error) {
	what := fmt.Sprintf("credential %q in vault %q", name, vault)
	return s.changeAlone(ctx, teamID, vault, name, act, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			delete from credentials c using vaults v
			where v.id = c.vault_id and c.team_id = $1 and v.name = $2 and c.name = $3`, teamID, vault, name)
		return must(tag, err, "delete "+what, what)
	})
}

// SealedVersion gives one version of a secret.
func (s *Store) SealedVersion(ctx context.Context, teamID, credentialID string, version int64) (control.SealedSecret, error) {
	return one(ctx, s.in(teamID), "such version of the credential", pgx.RowToStructByPos[control.SealedSecret], `
		select x.key_version, x.salt, x.commitment, x.ciphertext
		from credential_versions x join credentials c on c.id = x.credential_id
		where c.team_id = $1 and c.id = $2 and x.version = $3`, teamID, credentialID, version)
}
