package controltest

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/control"
	"sallyport/control/store"
)

// Response is an answer of the admin API.
type Response struct {
	Status int
	Header http.Header
	Body   string
}

// Do asks the admin API with a token. A body that is a string is sent as it is,
// anything else as JSON, nil not at all. An update is of whatever is there.
func (p *Plane) Do(t *testing.T, token, method, path string, body any) Response {
	t.Helper()
	header := http.Header{}
	if method == http.MethodPut || method == http.MethodPatch {
		header.Set("If-Match", "*")
	}
	return p.DoWith(t, token, method, path, body, header)
}

// DoWith is Do with headers.
func (p *Plane) DoWith(t *testing.T, token, method, path string, body any, header http.Header) Response {
	t.Helper()
	var raw []byte
	switch b := body.(type) {
	case nil:
	case string:
		raw = []byte(b)
	default:
		var err error
		if raw, err = json.Marshal(b); err != nil {
			t.Fatal(err)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), method, p.AdminURL+path, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	maps.Copy(r.Header, header)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if p.Check != nil {
		p.Check(t, r, resp, content)
	}
	return Response{resp.StatusCode, resp.Header, string(content)}
}

// Into reads the answer's JSON, after checking its status.
func (r Response) Into(t *testing.T, status int, into any) {
	t.Helper()
	if r.Status != status {
		t.Fatalf("status %d, want %d: %s", r.Status, status, r.Body)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal([]byte(r.Body), into); err != nil {
		t.Fatalf("%v in %s", err, r.Body)
	}
}

// Team is a team of one test, used through the admin API as its owner.
type Team struct {
	*Plane
	Name, ID string
}

// NewTeam makes a team.
func (p *Plane) NewTeam(t *testing.T) *Team {
	t.Helper()
	var made control.Team
	p.Do(t, p.Owner, "POST", "/v1/teams", map[string]any{"name": "t-" + store.NewID()}).Into(t, 201, &made)
	return &Team{Plane: p, Name: made.Name, ID: made.ID}
}

// Path is a path below the team.
func (m *Team) Path(parts ...string) string {
	return "/v1/teams/" + m.Name + "/" + strings.Join(parts, "/")
}

// Call asks as the owner.
func (m *Team) Call(t *testing.T, method, path string, body any) Response {
	t.Helper()
	return m.Do(t, m.Owner, method, m.Path(path), body)
}

// Must is Call, and reads the answer of a success.
func (m *Team) Must(t *testing.T, method, path string, body, into any) {
	t.Helper()
	r := m.Call(t, method, path, body)
	if r.Status/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, r.Status, r.Body)
	}
	r.Into(t, r.Status, into)
}

// Setup makes a vault "v" with a Stripe credential "stripe" and an agent "a" that it is pinned to.
func (m *Team) Setup(t *testing.T, secret string) control.Credential {
	t.Helper()
	m.Must(t, "POST", "vaults", map[string]any{"name": "v"}, nil)
	var c control.Credential
	m.Must(t, "POST", "vaults/v/credentials", map[string]any{"name": "stripe", "service": "stripe", "secret": secret}, &c)
	m.Must(t, "POST", "agents", map[string]any{"name": "a"}, nil)
	m.Must(t, "PUT", "agents/a/pins/v", nil, nil)
	return c
}

// NewSandbox makes a sandbox of the agent "a" and gives its id and join token.
func (m *Team) NewSandbox(t *testing.T) (id, joinToken string) {
	t.Helper()
	var made struct {
		Sandbox   control.Sandbox `json:"sandbox"`
		JoinToken string          `json:"join_token"`
		ExpiresAt time.Time       `json:"expires_at"`
	}
	m.Must(t, "POST", "agents/a/sandboxes", nil, &made)
	return made.Sandbox.ID, made.JoinToken
}

// Events lists the team's audit events, newest first.
func (m *Team) Events(t *testing.T) []control.Event {
	t.Helper()
	var page struct{ Items []control.Event }
	m.Must(t, "GET", "audit?limit=1000", nil, &page)
	return page.Items
}
