package client

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"sallyport/control"
	"sallyport/control/registry"
)

// Info is what the control plane says of itself and of the token.
type Info struct {
	Version    string       `json:"version"`
	SidecarURL string       `json:"sidecar_url"`
	Team       string       `json:"team"` // of the token; empty: every team
	Role       control.Role `json:"role"`
	Token      string       `json:"token"` // its name; empty for a person

	Grants    []control.Grant `json:"grants"`
	Person    *control.Person `json:"person,omitempty"`
	ExpiresAt *time.Time      `json:"expires_at,omitempty"`
}

// NewCredential is a credential to be stored.
type NewCredential struct {
	Name           string           `json:"name"`
	Service        string           `json:"service,omitempty"`
	Hosts          []string         `json:"hosts,omitempty"`
	Inject         []control.Rule   `json:"inject,omitempty"`
	Auth           control.Auth     `json:"auth,omitempty"`
	Username       string           `json:"username,omitempty"`
	Stray          control.Stray    `json:"stray,omitempty"`
	AllowHTTP      bool             `json:"allow_http,omitempty"`
	AllowWebsocket *bool            `json:"allow_websocket,omitempty"` // nil: as the service has it
	Mints          []control.Mint   `json:"mints,omitempty"`
	Limits         *LimitChanges    `json:"limits,omitempty"`
	Settings       control.Settings `json:"settings,omitempty"`
	RotateEvery    control.Days     `json:"rotate_every,omitzero"`
	From           *control.Place   `json:"from,omitempty"`
	Secret         Outgoing         `json:"secret,omitzero"` // unless From is given
}

// Outgoing is a secret on its way to the control plane: the one place where a
// secret becomes JSON. Everywhere else it prints as [redacted].
type Outgoing struct{ control.Secret }

// MarshalJSON gives the secret itself.
func (o Outgoing) MarshalJSON() ([]byte, error) { return json.Marshal(string(o.Secret)) }

// Once is a secret that the control plane shows this once, to be handed on. It
// prints as [redacted]; as JSON, and converted to string, it is itself.
type Once string

// Format keeps every verb of fmt, and slog's text, from reaching the value.
func (Once) Format(f fmt.State, verb rune) { control.Secret(nil).Format(f, verb) }

// LogValue is [redacted].
func (Once) LogValue() slog.Value { return control.Secret(nil).LogValue() }

// NewSandbox is a sandbox and what its sidecar needs to become it. The join
// token is good for one sidecar.
type NewSandbox struct {
	Sandbox    control.Sandbox `json:"sandbox"`
	JoinToken  Once            `json:"join_token"`
	ExpiresAt  time.Time       `json:"expires_at"` // of the join token
	SidecarURL string          `json:"sidecar_url"`
}

// Info asks who the token is and what it talks to.
func (c *Client) Info(ctx context.Context) (Info, error) { return get[Info](ctx, c, "info") }

// named is the body of everything that only needs a name.
type named struct {
	Name string `json:"name"`
}

func (c *Client) Teams(ctx context.Context) ([]control.Team, error) {
	return list[control.Team](ctx, c, 0, "teams")
}

func (c *Client) CreateTeam(ctx context.Context, name string) (control.Team, error) {
	return send[control.Team](ctx, c, http.MethodPost, named{name}, "teams")
}

func (c *Client) Vaults(ctx context.Context, team string) ([]control.Vault, error) {
	return list[control.Vault](ctx, c, 0, "teams", team, "vaults")
}

func (c *Client) CreateVault(ctx context.Context, team, name string) (control.Vault, error) {
	return send[control.Vault](ctx, c, http.MethodPost, named{name}, "teams", team, "vaults")
}

func (c *Client) DeleteVault(ctx context.Context, team, name string) error {
	return act(ctx, c, http.MethodDelete, "teams", team, "vaults", name)
}

func (c *Client) Credentials(ctx context.Context, team, vault string) ([]control.Credential, error) {
	return list[control.Credential](ctx, c, 0, "teams", team, "vaults", vault, "credentials")
}

func (c *Client) CreateCredential(ctx context.Context, team, vault string, credential NewCredential) (control.Credential, error) {
	return send[control.Credential](ctx, c, http.MethodPost, credential, "teams", team, "vaults", vault, "credentials")
}

// SetMints gives a credential other rules for new secrets.
func (c *Client) SetMints(ctx context.Context, team, vault, name string, mints []control.Mint) (control.Credential, error) {
	body := struct {
		Mints []control.Mint `json:"mints"`
	}{mints}
	return send[control.Credential](ctx, c, http.MethodPatch, body, "teams", team, "vaults", vault, "credentials", name)
}

// SetSettings gives a credential other settings.
func (c *Client) SetSettings(ctx context.Context, team, vault, name string, settings control.Settings) (control.Credential, error) {
	body := struct {
		Settings control.Settings `json:"settings"`
	}{settings}
	return send[control.Credential](ctx, c, http.MethodPatch, body, "teams", team, "vaults", vault, "credentials", name)
}

// RotateCredential stores a new version. With a wait above 0 the answer comes
// when every connected sidecar has it, or after wait. With an overlap above 0 the
// version before stays good for that long.
func (c *Client) RotateCredential(ctx context.Context, team, vault, name string, secret Outgoing, overlap, wait time.Duration) (control.Rotation, error) {
	var rotation control.Rotation
	p, err := path("teams", team, "vaults", vault, "credentials", name, "rotate")
	if err != nil {
		return rotation, err
	}
	if wait > 0 {
		p += "?wait=" + wait.String()
	}
	body := struct {
		Secret  Outgoing `json:"secret"`
		Overlap string   `json:"overlap,omitempty"`
	}{Secret: secret}
	if overlap > 0 {
		body.Overlap = overlap.String()
	}
	return rotation, c.call(ctx, callTimeout+wait, http.MethodPost, p, body, &rotation)
}

func (c *Client) DeleteCredential(ctx context.Context, team, vault, name string) error {
	return act(ctx, c, http.MethodDelete, "teams", team, "vaults", vault, "credentials", name)
}

func (c *Client) Agents(ctx context.Context, team string) ([]control.Agent, error) {
	return list[control.Agent](ctx, c, 0, "teams", team, "agents")
}

func (c *Client) Agent(ctx context.Context, team, name string) (control.Agent, error) {
	return get[control.Agent](ctx, c, "teams", team, "agents", name)
}

func (c *Client) CreateAgent(ctx context.Context, team, name string) (control.Agent, error) {
	return send[control.Agent](ctx, c, http.MethodPost, named{name}, "teams", team, "agents")
}

func (c *Client) DeleteAgent(ctx context.Context, team, name string) error {
	return act(ctx, c, http.MethodDelete, "teams", team, "agents", name)
}

func (c *Client) Pin(ctx context.Context, team, agent, vault string) error {
	return act(ctx, c, http.MethodPut, "teams", team, "agents", agent, "pins", vault)
}

func (c *Client) Unpin(ctx context.Context, team, agent, vault string) error {
	return act(ctx, c, http.MethodDelete, "teams", team, "agents", agent, "pins", vault)
}

func (c *Client) Sandboxes(ctx context.Context, team string) ([]control.Sandbox, error) {
	return list[control.Sandbox](ctx, c, 0, "teams", team, "sandboxes")
}

func (c *Client) CreateSandbox(ctx context.Context, team, agent string) (NewSandbox, error) {
	return send[NewSandbox](ctx, c, http.MethodPost, nil, "teams", team, "agents", agent, "sandboxes")
}

func (c *Client) DeleteSandbox(ctx context.Context, team, id string) error {
	return act(ctx, c, http.MethodDelete, "teams", team, "sandboxes", id)
}

// Audit gives up to limit events, newest first.
func (c *Client) Audit(ctx context.Context, team string, limit int) ([]control.Event, error) {
	return list[control.Event](ctx, c, limit, "teams", team, "audit")
}

// Services gives the services whose hosts and rules are known.
func (c *Client) Services(ctx context.Context) ([]registry.Service, error) {
	return list[registry.Service](ctx, c, 0, "services")
}

// NewToken is an API token to be made.
type NewToken struct {
	Name      string       `json:"name"`
	Role      control.Role `json:"role"`
	ExpiresAt *time.Time   `json:"expires_at,omitempty"`
}

// MadeToken is a new API token with its value.
type MadeToken struct {
	control.Token
	Value Once `json:"value"`
}

// tokens is the path of a team's tokens, or of those of every team.
func tokens(team string, rest ...string) []string {
	if team == "" {
		return append([]string{"tokens"}, rest...)
	}
	return append([]string{"teams", team, "tokens"}, rest...)
}

// Tokens lists a team's tokens; team "" means those of every team.
func (c *Client) Tokens(ctx context.Context, team string) ([]control.Token, error) {
	return list[control.Token](ctx, c, 0, tokens(team)...)
}

func (c *Client) CreateToken(ctx context.Context, team string, wanted NewToken) (MadeToken, error) {
	return send[MadeToken](ctx, c, http.MethodPost, wanted, tokens(team)...)
}

func (c *Client) DeleteToken(ctx context.Context, team, name string) error {
	return act(ctx, c, http.MethodDelete, tokens(team, name)...)
}

// CredentialLogin is what a browser brought back for a credential.
type CredentialLogin struct {
	Code        Outgoing `json:"code"`
	Verifier    Outgoing `json:"code_verifier"`
	RedirectURI string   `json:"redirect_uri"`
}

// LoginCredential has the control plane exchange a code for a refresh token. It is never
// sent twice: a server that sees a code again voids what it gave for it (RFC 6749 section
// 4.1.2).
func (c *Client) LoginCredential(ctx context.Context, team, vault, name string, login CredentialLogin) (control.Rotation, error) {
	var rotation control.Rotation
	p, err := path("teams", team, "vaults", vault, "credentials", name, "login")
	if err != nil {
		return rotation, err
	}
	return rotation, c.callWith(ctx, callTimeout, http.Header{idempotencyKey: nil}, http.MethodPost, p, login, &rotation)
}
