// Package control is the domain of the control plane: the things a team stores
// and the rules that hold for them, with no knowledge of HTTP, SQL or keys.
//
//	team ─┬─ vault ── credential ── version (sealed)
//	      │    │ pin
//	      └─ agent ── sandbox ── event
package control

import "time"

// Team owns everything else. Nothing of one team is visible to another.
type Team struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
	Audit     AuditMode `json:"audit"`
}

// AuditMode is where the intent to use a credential must be before a request goes out.
type AuditMode string

const (
	AuditBestEffort AuditMode = "best_effort" // in memory that outlives the worker
	AuditDurable    AuditMode = "durable"     // on the sidecar's disk
	AuditStrict     AuditMode = "strict"      // with the control plane
)

// Vault is a team's container of credentials.
type Vault struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
}

// Auth is what a credential's secret is: one of the kinds of control/exchange.
type Auth string

const (
	AuthToken Auth = "token" // an opaque string
	AuthBasic Auth = "basic" // the password of Username (RFC 7617)

	AuthOAuthClient  Auth = "oauth_client"  // a client's own secret or key (RFC 6749 section 4.4)
	AuthOAuthRefresh Auth = "oauth_refresh" // a refresh token (RFC 6749 section 6)
	AuthJWTBearer    Auth = "jwt_bearer"    // a key that signs assertions (RFC 7523)
	AuthGoogle       Auth = "google"        // the key file of a service account
	AuthGitHubApp    Auth = "github_app"    // the key of a GitHub App
)

// Sent reports whether the secret itself is what a request carries, and so must
// fit into a header.
func (a Auth) Sent() bool { return a == AuthToken || a == AuthBasic }

// Stray is what happens to a placeholder found where nothing is injected.
type Stray string

const (
	StrayBlock   Stray = "block"
	StrayLiteral Stray = "literal"
	StrayRedact  Stray = "redact"
)

// Credential is what a vault knows of one service's secret, without the secret.
type Credential struct {
	ID             string    `json:"id"`
	Vault          string    `json:"vault"`             // name
	Name           string    `json:"name"`              // its placeholder is "vault:" + Name
	Service        string    `json:"service,omitempty"` // registry entry it was made from
	Hosts          []string  `json:"hosts"`
	AllowHTTP      bool      `json:"allow_http"`
	AllowWebsocket bool      `json:"allow_websocket"` // a WebSocket may be opened with it
	Auth           Auth      `json:"auth"`
	Username       string    `json:"username,omitempty"`
	Settings       Settings  `json:"settings,omitempty"`
	From           *Place    `json:"from,omitempty"`         // where its secret lies, if that is not here
	FromVersion    string    `json:"from_version,omitempty"` // the source's own name for what it has there, if it has one
	Inject         []Rule    `json:"inject"`
	Stray          Stray     `json:"stray"`
	Placeholders   []string  `json:"placeholders"` // "vault:NAME" first
	Mints          []Mint    `json:"mints"`        // its own; those of its service come after them
	Captured       *Captured `json:"captured,omitempty"`
	Limits         Limits    `json:"limits"`
	Spent          int64     `json:"spent,omitempty"` // of Limits.Budget, in its period; only said of one credential
	Version        int64     `json:"version"`
	Overlap        *Overlap  `json:"overlap,omitempty"` // nil: no other version is good
	CreatedAt      time.Time `json:"created_at"`
	RotatedAt      time.Time `json:"rotated_at"`

	RotateEvery Days       `json:"rotate_every,omitzero"`
	RotateDue   *time.Time `json:"rotate_due,omitempty"` // when it is to be rotated next; nil: nobody is reminded

	Warning string `json:"warning,omitempty"` // what is weak about its secret; only said when it is stored
}

// Settings are what an auth kind has to know beside the secret, by name. They are
// not secret.
type Settings map[string]string

// Captured is where a credential comes from that a service has handed out, in its
// answer to a request of a sandbox. It serves that sandbox alone, until it expires
// or its origin or the sandbox is removed.
type Captured struct {
	OriginID  string    `json:"origin_id"`
	Origin    string    `json:"origin"` // name, in the same vault
	Sandbox   string    `json:"sandbox"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Agent is a program that credentials are pinned to.
type Agent struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Vaults    []string  `json:"vaults"` // names of the pinned vaults
	CreatedAt time.Time `json:"created_at"`
}

// SandboxState is how far a sandbox has come.
type SandboxState string

const (
	SandboxPending  SandboxState = "pending"  // its join token is unused
	SandboxEnrolled SandboxState = "enrolled" // it holds a certificate
	SandboxRevoked  SandboxState = "revoked"  // it was removed
	SandboxLocked   SandboxState = "locked"   // its identity or join token was seen twice
)

// Sandbox is one running instance of an agent.
type Sandbox struct {
	ID              string       `json:"id"`
	Agent           string       `json:"agent"` // name
	State           SandboxState `json:"state"`
	Connected       bool         `json:"connected"`
	AppliedRevision int64        `json:"applied_revision"`
	Version         string       `json:"version,omitempty"` // the sidecar's build
	CreatedAt       time.Time    `json:"created_at"`
	EnrolledAt      *time.Time   `json:"enrolled_at,omitempty"`
	LastSeenAt      *time.Time   `json:"last_seen_at,omitempty"`
}

// Rotation is the answer to a rotated credential: who has it already.
type Rotation struct {
	Version      int64 `json:"version"`
	Revision     int64 `json:"revision"`
	Connected    int   `json:"connected"`    // sidecars that hold a binding of it and are connected
	Acknowledged int   `json:"acknowledged"` // of these, how many have applied it
	Milliseconds int64 `json:"milliseconds"` // from commit to the last acknowledgement, if it was waited for

	OverlapUntil *time.Time `json:"overlap_until,omitempty"` // how long the version before is still good

	Warning string `json:"warning,omitempty"` // what is weak about the secret
}

// Role is what an API token may do.
type Role string

const (
	RoleOwner  Role = "owner"  // everything, other tokens and teams included
	RoleAdmin  Role = "admin"  // everything of the team but its tokens
	RoleMember Role = "member" // start and stop sandboxes, read
	RoleViewer Role = "viewer" // read
)

// Grant is a role in a team, or in every team.
type Grant struct {
	Team string `json:"team,omitempty"` // empty: every team
	Role Role   `json:"role"`
}

// Token is an API token without its value, of which only a hash is kept.
type Token struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Team      string     `json:"team,omitempty"` // empty: every team
	Role      Role       `json:"role"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`

	LastUsedAt    *time.Time `json:"last_used_at,omitempty"`   // within some minutes
	RotatedAt     *time.Time `json:"rotated_at,omitempty"`     // when it was given its value, if not at first
	PreviousUntil *time.Time `json:"previous_until,omitempty"` // how long the value before that is good
}

// Event is one request, or one act of an admin, as audit keeps it. It never
// holds material or a query.
type Event struct {
	ID         int64     `json:"id"`
	Time       time.Time `json:"time"`
	Kind       string    `json:"kind"`  // "request", "grant", or an act such as "credential.rotate"
	Actor      string    `json:"actor"` // "sandbox:ID", "token:NAME", of a team "token:TEAM/NAME", "person:EMAIL/SUBJECT" or "system"
	Agent      string    `json:"agent,omitempty"`
	Sandbox    string    `json:"sandbox,omitempty"`
	RequestID  string    `json:"request_id,omitempty"`
	Host       string    `json:"host,omitempty"`
	Port       int       `json:"port,omitempty"`
	Method     string    `json:"method,omitempty"`
	Path       string    `json:"path,omitempty"`
	Protocol   string    `json:"protocol,omitempty"`
	Decision   string    `json:"decision,omitempty"` // inject, inspect, passthrough or refuse
	Reason     string    `json:"reason,omitempty"`   // error code of a refusal; "opened", "intent", "outcome_unknown"
	Status     int       `json:"status,omitempty"`
	Credential string    `json:"credential,omitempty"` // VAULT/NAME
	Version    int64     `json:"version,omitempty"`
	Lease      string    `json:"lease,omitempty"`
	BytesOut   int64     `json:"request_bytes,omitempty"`
	BytesIn    int64     `json:"response_bytes,omitempty"`
	DurationUS int64     `json:"duration_us,omitempty"`
	UpstreamUS int64     `json:"upstream_us,omitempty"`
	Redactions int       `json:"redactions,omitempty"`
	Detail     string    `json:"detail,omitempty"` // of an admin's act: what it was done to
}
