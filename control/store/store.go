// Package store keeps everything the control plane knows in Postgres, one
// aggregate a file beside its SQL. Nothing else imports pgx.
//
// Every error for the caller is a control.Error: CodeNotFound for what is not in
// the team, CodeConflict for what exists or contradicts, CodeUnavailable while
// the database is away.
package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"sallyport/control"
)

// Store is safe for concurrent use.
type Store struct{}

var errSoon = errors.New("not yet")

// Open connects to url and brings the schema up to date.
func Open(ctx context.Context, url string, log *slog.Logger) (*Store, error) { return nil, errSoon }

// Close ends every connection.
func (s *Store) Close() {}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return errSoon }

// NewID makes an identifier; later ones sort after earlier ones.
func NewID() string { return "" }

// Page asks for a part of a list. Every list gives the cursor of the next page, "" after the last.
type Page struct {
	Limit int    // 0 means 100; at most 1000
	After string // the cursor the page before gave
}

// Teams.

func (s *Store) CreateTeam(ctx context.Context, name string) (control.Team, error) { panic(errSoon) }
func (s *Store) Team(ctx context.Context, name string) (control.Team, error)       { panic(errSoon) }
func (s *Store) Teams(ctx context.Context, page Page) (teams []control.Team, next string, err error) {
	panic(errSoon)
}

// Vaults. ID of a new vault and credential is the caller's (NewID), since it is sealed in.

func (s *Store) CreateVault(ctx context.Context, teamID string, v control.Vault, key control.WrappedKey) (control.Vault, error) {
	panic(errSoon)
}
func (s *Store) Vault(ctx context.Context, teamID, name string) (control.Vault, error) {
	panic(errSoon)
}
func (s *Store) Vaults(ctx context.Context, teamID string, page Page) (vaults []control.Vault, next string, err error) {
	panic(errSoon)
}
func (s *Store) DeleteVault(ctx context.Context, teamID, name string) (revision int64, err error) {
	panic(errSoon)
}
func (s *Store) VaultKey(ctx context.Context, teamID, vaultID string) (control.WrappedKey, error) {
	panic(errSoon)
}

// Credentials. vault is a name, vaultID an id.

func (s *Store) CreateCredential(ctx context.Context, teamID, vaultID string, c control.Credential, secret control.SealedSecret) (created control.Credential, revision int64, err error) {
	panic(errSoon)
}
func (s *Store) Credential(ctx context.Context, teamID, vault, name string) (control.Credential, error) {
	panic(errSoon)
}
func (s *Store) Credentials(ctx context.Context, teamID, vault string, page Page) (credentials []control.Credential, next string, err error) {
	panic(errSoon)
}
func (s *Store) RotateCredential(ctx context.Context, teamID, credentialID string, expectVersion int64, secret control.SealedSecret) (version, revision int64, err error) {
	panic(errSoon)
}
func (s *Store) DeleteCredential(ctx context.Context, teamID, vault, name string) (revision int64, err error) {
	panic(errSoon)
}
func (s *Store) SealedVersion(ctx context.Context, teamID, credentialID string, version int64) (control.SealedSecret, error) {
	panic(errSoon)
}

// Agents and pins, by name.

func (s *Store) CreateAgent(ctx context.Context, teamID, name string) (control.Agent, error) {
	panic(errSoon)
}
func (s *Store) Agent(ctx context.Context, teamID, name string) (control.Agent, error) {
	panic(errSoon)
}
func (s *Store) Agents(ctx context.Context, teamID string, page Page) (agents []control.Agent, next string, err error) {
	panic(errSoon)
}
func (s *Store) DeleteAgent(ctx context.Context, teamID, name string) (revision int64, err error) {
	panic(errSoon)
}
func (s *Store) Pin(ctx context.Context, teamID, agent, vault string) (revision int64, err error) {
	panic(errSoon)
}
func (s *Store) Unpin(ctx context.Context, teamID, agent, vault string) (revision int64, err error) {
	panic(errSoon)
}

// Sandboxes.

// SandboxIdentity is whom a join token was for.
type SandboxIdentity struct {
	TeamID    string
	Team      string
	Agent     string
	SandboxID string
}

// CreateSandbox makes a pending sandbox; tokenHash is the SHA-256 of its join token.
func (s *Store) CreateSandbox(ctx context.Context, teamID, agent string, tokenHash []byte, expires time.Time) (control.Sandbox, error) {
	panic(errSoon)
}
func (s *Store) Sandbox(ctx context.Context, teamID, sandboxID string) (control.Sandbox, error) {
	panic(errSoon)
}
func (s *Store) Sandboxes(ctx context.Context, teamID string, page Page) (sandboxes []control.Sandbox, next string, err error) {
	panic(errSoon)
}
func (s *Store) RevokeSandbox(ctx context.Context, teamID, sandboxID string) (revision int64, err error) {
	panic(errSoon)
}

// ConsumeJoinToken uses up a join token: CodeUnauthorized if it is unknown,
// expired or used. A second use also locks the sandbox and writes an event.
func (s *Store) ConsumeJoinToken(ctx context.Context, tokenHash []byte) (SandboxIdentity, error) {
	panic(errSoon)
}

// SetIdentity makes a pending sandbox whose token was consumed an enrolled one, at generation 1.
// publicKeyHash is the SHA-256 of its certificate's SubjectPublicKeyInfo. CodeForbidden if it was locked or revoked meanwhile.
func (s *Store) SetIdentity(ctx context.Context, sandboxID string, publicKeyHash, sealKey []byte, version string) error {
	panic(errSoon)
}

// Identity is what was set by SetIdentity, with the state that every call of a sandbox must be checked against.
type Identity struct {
	SandboxIdentity
	State         control.SandboxState
	PublicKeyHash []byte
	SealKey       []byte
	Generation    int64
}

// Identity gives a sandbox's identity, whatever its state.
func (s *Store) Identity(ctx context.Context, teamID, sandboxID string) (Identity, error) {
	panic(errSoon)
}

// AdvanceGeneration counts a renewal. from must be the current generation; anything
// else means that the identity was copied, which locks the sandbox (CodeForbidden).
// request is the SHA-256 of the CSR: the very same request sent again, because its
// answer was lost, gets the same answer.
func (s *Store) AdvanceGeneration(ctx context.Context, sandboxID string, from int64, request []byte) (to int64, err error) {
	panic(errSoon)
}

// Snapshot is all that a sandbox may use, at one revision of its team.
type Snapshot struct {
	Revision    int64
	State       control.SandboxState
	Credentials []control.Credential // empty unless State is enrolled
}

// Snapshot is CodeNotFound for a sandbox that is gone (its agent was deleted): treat it as revoked.
func (s *Store) Snapshot(ctx context.Context, sandboxID string) (Snapshot, error) { panic(errSoon) }

// Acknowledge records that the sandbox has applied revision.
func (s *Store) Acknowledge(ctx context.Context, sandboxID string, revision int64) error {
	panic(errSoon)
}

// ConnectedFor is how long a sandbox counts as connected after SetConnected or Acknowledge.
// Whoever holds its stream calls SetConnected(…, true) again well within it (every 30 s),
// so that a replica that died leaves no sandbox connected for ever.
const ConnectedFor = 2 * time.Minute

// SetConnected records that replica (a name unique to the process) holds the
// sandbox's stream, or, if it was still this replica's, that it no longer does.
func (s *Store) SetConnected(ctx context.Context, sandboxID, replica string, connected bool) error {
	panic(errSoon)
}

// Acknowledged counts the connected sandboxes that hold a binding of the credential, and those of them that have applied revision.
func (s *Store) Acknowledged(ctx context.Context, teamID, credentialID string, revision int64) (connected, acknowledged int, err error) {
	panic(errSoon)
}

// Listen calls changed with the id of each team whose revision moved, and with ""
// whenever it has (re)connected: anything may have changed. It returns nil when ctx ends.
func (s *Store) Listen(ctx context.Context, changed func(teamID string)) error { panic(errSoon) }

// Bound is a credential that a sandbox may use now, with what opens its secret.
type Bound struct {
	Credential control.Credential
	Identity   control.SecretIdentity
	Key        control.WrappedKey
	Secret     control.SealedSecret
}

// Bound is CodeForbidden unless the sandbox is enrolled, and the same CodeNotFound for
// a credential that does not exist, is not pinned, or has another version now.
func (s *Store) Bound(ctx context.Context, teamID, sandboxID, credentialID string, version int64) (Bound, error) {
	panic(errSoon)
}

// Grant is a lease to be recorded.
type Grant struct {
	TeamID       string
	SandboxID    string
	CredentialID string
	Version      int64
	Host         string // as asked
	FreshFor     time.Duration
	HardFor      time.Duration
}

// Lease is a recorded grant. Its times are the database's.
type Lease struct {
	ID         string
	FreshUntil time.Time
	HardExpiry time.Time
}

// Grant records the lease and its audit event in one transaction, checking again what Bound checks. Call it before material is handed out.
func (s *Store) Grant(ctx context.Context, g Grant) (Lease, error) { panic(errSoon) }

// Audit.

// Report is one event of a sandbox. Kind, actor, agent and sandbox of the event, and its
// credential's name, are the store's to fill.
type Report struct {
	Sequence     uint64
	CredentialID string
	Event        control.Event
}

// AppendEvents stores a sandbox's events, each sequence number once, and gives the
// highest sequence number stored. Without events it only gives that.
func (s *Store) AppendEvents(ctx context.Context, teamID, sandboxID string, events []Report) (acknowledged uint64, err error) {
	panic(errSoon)
}

// AppendAct stores an admin's or the system's act. teamID "" is the installation itself.
func (s *Store) AppendAct(ctx context.Context, teamID string, e control.Event) error { panic(errSoon) }

// Events lists newest first. teamID "" is the installation itself.
func (s *Store) Events(ctx context.Context, teamID string, page Page) (events []control.Event, next string, err error) {
	panic(errSoon)
}

// VerifyChain reads a team's events again and reports the first that is not as it was written.
func (s *Store) VerifyChain(ctx context.Context, teamID string) error { panic(errSoon) }

// Tokens. teamID "" is for tokens of every team.

func (s *Store) CreateToken(ctx context.Context, teamID string, t control.Token, hash []byte) (control.Token, error) {
	panic(errSoon)
}

// TokenByHash is CodeUnauthorized for a token that is unknown or expired.
func (s *Store) TokenByHash(ctx context.Context, hash []byte) (control.Token, error) { panic(errSoon) }
func (s *Store) Tokens(ctx context.Context, teamID string, page Page) (tokens []control.Token, next string, err error) {
	panic(errSoon)
}
func (s *Store) DeleteToken(ctx context.Context, teamID, name string) error { panic(errSoon) }

// Meta gives a value of the installation, CodeNotFound if it was never set.
func (s *Store) GetMeta(ctx context.Context, key string) ([]byte, error) { panic(errSoon) }

// SetMetaIfAbsent sets a value once and gives the one that is set, whoever was first.
func (s *Store) SetMetaIfAbsent(ctx context.Context, key string, value []byte) ([]byte, error) {
	panic(errSoon)
}
