package approve_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/controltest"
	"sallyport/sidecar/approve"
)

var plane *controltest.Plane

func TestMain(m *testing.M) { controltest.Main(m, &plane) }

// guarded is a sandbox whose first use of a credential waits for a person.
func guarded(t *testing.T) (*controltest.Team, *approve.Desk, *api.Binding) {
	t.Helper()
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_canary_1")
	var c control.Credential
	team.Must(t, "PATCH", "vaults/v/credentials/stripe", map[string]any{"limits": map[string]any{"approve": "first"}}, &c)
	b := &api.Binding{CredentialId: c.ID, Version: 1, Limits: &api.Limits{Approval: api.Approval_APPROVAL_FIRST, ApprovalTimeout: durationpb.New(time.Minute)}}
	return team, approve.New(team.Join(t).Client), b
}

func question(name string) approve.Question {
	return approve.Question{Host: "api.stripe.com", Port: 443, Method: "GET", Path: "/" + name, Request: name}
}

// waiting waits until n questions of the team do.
func waiting(t *testing.T, team *controltest.Team, n int) []control.Approval {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		var page struct{ Items []control.Approval }
		team.Must(t, "GET", "approvals", nil, &page)
		if len(page.Items) == n {
			return page.Items
		}
		if time.Now().After(end) {
			t.Fatalf("%d wait, want %d", len(page.Items), n)
		}
	}
}

func decide(t *testing.T, team *controltest.Team, a control.Approval, verb string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", team.AdminURL+team.Path("approvals", a.ID, verb), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+team.Owner)
	r.Header.Set("If-Match", a.Tag())
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 200 {
		t.Fatalf("%s: %s", verb, response.Status)
	}
}

// Requests that wait for the same use wait for one answer, as long as any of them does.
func TestFirstIsAskedOnce(t *testing.T) {
	team, desk, b := guarded(t)
	leaving, leave := context.WithCancel(t.Context())
	left, stayed := make(chan error, 1), make(chan error, 1)
	go func() { left <- desk.Ask(leaving, b, question("leaves")) }()
	waiting(t, team, 1)
	go func() { stayed <- desk.Ask(t.Context(), b, question("stays")) }()
	// Until it has joined, a third that is given up at once does no harm.
	gone, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	if err := desk.Ask(gone, b, question("gives-up")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who gives up: %v", err)
	}
	cancel()
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who leaves: %v", err)
	}
	decide(t, team, waiting(t, team, 1)[0], "approve")
	if err := <-stayed; err != nil {
		t.Errorf("who stays: %v", err)
	}
	if err := desk.Ask(t.Context(), b, question("later")); err != nil {
		t.Errorf("a later request: %v", err)
	}
	if n := len(waiting(t, team, 0)); n != 0 {
		t.Errorf("%d wait", n)
	}
	// Another version is another use.
	desk.Keep([]*api.Binding{{CredentialId: b.CredentialId, Version: 2, Limits: b.Limits}})
	if err := desk.Ask(t.Context(), &api.Binding{CredentialId: b.CredentialId, Version: 2, Limits: b.Limits}, question("v2")); !errors.Is(err, approve.ErrSuperseded) {
		t.Errorf("a version that there is not: %v", err)
	}
	desk.Wait()
}

// The question goes with the last who waits for it, and comes again with the next.
func TestLastWhoLeavesWithdraws(t *testing.T) {
	team, desk, b := guarded(t)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- desk.Ask(ctx, b, question("r1")) }()
	waiting(t, team, 1)
	leave()
	<-left
	waiting(t, team, 0)
	again := make(chan error, 1)
	go func() { again <- desk.Ask(t.Context(), b, question("r2")) }()
	decide(t, team, waiting(t, team, 1)[0], "deny")
	if err := <-again; !errors.Is(err, approve.ErrDenied) {
		t.Errorf("denied: %v", err)
	}
	if err := desk.Ask(t.Context(), b, question("r3")); !errors.Is(err, approve.ErrDenied) {
		t.Errorf("asked again at once: %v", err)
	}
	desk.Wait()
}

// away is a control plane that is.
type away struct{}

func (away) Approve(context.Context, *connect.Request[api.ApproveRequest]) (*connect.Response[api.ApproveResponse], error) {
	return nil, connect.NewError(connect.CodeUnavailable, errors.New("away"))
}

// Nobody's approval is no approval.
func TestNobodyToAsk(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	b := &api.Binding{CredentialId: "c", Limits: &api.Limits{Approval: api.Approval_APPROVAL_EACH, ApprovalTimeout: durationpb.New(time.Minute)}}
	if err := approve.New(away{}).Ask(ctx, b, question("r")); err == nil {
		t.Error("a request goes on that nobody has approved")
	}
	b.Limits.Approval = 9
	if err := approve.New(away{}).Ask(ctx, b, question("r")); err == nil {
		t.Error("an approval of a kind nobody knows is none at all")
	}
}

// TestRotationWhileAPersonIsAsked: those who wait are told to ask about the new version.
func TestRotationWhileAPersonIsAsked(t *testing.T) {
	team, desk, b := guarded(t)
	asked := make(chan error, 1)
	go func() { asked <- desk.Ask(t.Context(), b, question("one")) }()
	waiting(t, team, 1)
	desk.Keep([]*api.Binding{{CredentialId: b.GetCredentialId(), Version: 2, Limits: b.GetLimits()}})
	if err := <-asked; !errors.Is(err, approve.ErrSuperseded) {
		t.Errorf("after a rotation: %v", err)
	}
	desk.Wait()
	waiting(t, team, 0)
}
