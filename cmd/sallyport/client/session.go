package client

import (
	"context"
	"net/http"
	"time"

	"sallyport/control"
)

// Login is how people log in.
type Login struct {
	Issuer        string   `json:"issuer"`
	ClientID      string   `json:"client_id"`
	Authorization string   `json:"authorization_endpoint"`
	Scopes        []string `json:"scopes"`
	Device        bool     `json:"device"`
}

// Device is a login that is confirmed elsewhere.
type Device struct {
	Code      string    `json:"device_code"`
	UserCode  string    `json:"user_code"`
	URI       string    `json:"verification_uri"`
	Complete  string    `json:"verification_uri_complete"`
	Interval  int64     `json:"interval"` // seconds
	ExpiresAt time.Time `json:"expires_at"`
}

// Proof is what a login ends with: the first three, or the last.
type Proof struct {
	Code         string `json:"code,omitempty"`
	CodeVerifier string `json:"code_verifier,omitempty"`
	RedirectURI  string `json:"redirect_uri,omitempty"`
	DeviceCode   string `json:"device_code,omitempty"`
}

// NewSession is a session with its value.
type NewSession struct {
	control.Session
	Value Once `json:"value"`
}

// Login asks how people log in; no token is needed for this, nor for the next two.
func (c *Client) Login(ctx context.Context) (Login, error) { return get[Login](ctx, c, "login") }

// StartDevice begins a login by device code.
func (c *Client) StartDevice(ctx context.Context) (Device, error) {
	return send[Device](ctx, c, http.MethodPost, nil, "login", "device")
}

// CreateSession ends a login.
func (c *Client) CreateSession(ctx context.Context, proof Proof) (NewSession, error) {
	return send[NewSession](ctx, c, http.MethodPost, proof, "sessions")
}

// Sessions lists yours, or everybody's for an owner of every team.
func (c *Client) Sessions(ctx context.Context) ([]control.Session, error) {
	return list[control.Session](ctx, c, 0, "sessions")
}

// DeleteSession ends a session; "current" is the one that asks.
func (c *Client) DeleteSession(ctx context.Context, id string) error {
	return act(ctx, c, http.MethodDelete, "sessions", id)
}

// TokenRotation asks for a new value of an API token.
type TokenRotation struct {
	Overlap   string     `json:"overlap,omitempty"` // how long the old one is good, as time.Duration prints
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// RotateToken gives a token a new value; team "" means one for every team.
func (c *Client) RotateToken(ctx context.Context, team, name string, wanted TokenRotation) (MadeToken, error) {
	return send[MadeToken](ctx, c, http.MethodPost, wanted, tokens(team, name, "rotate")...)
}
