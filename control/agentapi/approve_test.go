package agentapi_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/controltest"
	"sallyport/control/store"
)

const (
	approved = api.ApproveResponse_DECISION_APPROVED
	denied   = api.ApproveResponse_DECISION_DENIED
	busy     = api.ApproveResponse_DECISION_BUSY
	tooLate  = api.ApproveResponse_DECISION_TIMEOUT
)

// guarded is a team with a credential that a person has to approve.
func guarded(t *testing.T, limits map[string]any) (*controltest.Team, control.Credential, *controltest.Sidecar) {
	t.Helper()
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_canary_1")
	var c control.Credential
	team.Must(t, "PATCH", "vaults/v/credentials/stripe", map[string]any{"limits": limits}, &c)
	return team, c, team.Join(t)
}

func question(c control.Credential, name, path string) *api.ApproveRequest {
	return &api.ApproveRequest{CredentialId: c.ID, Version: uint64(c.Version), Host: "api.stripe.com", Port: 443, Method: "POST", Path: path, Request: name}
}

// asking asks in the background. The decision of a question that can't be asked
// any more is 0.
func asking(t *testing.T, s *controltest.Sidecar, q *api.ApproveRequest) <-chan api.ApproveResponse_Decision {
	t.Helper()
	decision := make(chan api.ApproveResponse_Decision, 1)
	go func() {
		for {
			r, err := s.Client.Approve(t.Context(), connect.NewRequest(q))
			if err != nil {
				close(decision)
				return
			}
			if r.Msg.GetDecision() != api.ApproveResponse_DECISION_PENDING {
				decision <- r.Msg.GetDecision()
				return
			}
		}
	}()
	return decision
}

// pending waits until n questions of the team wait.
func pending(t *testing.T, team *controltest.Team, n int) []control.Approval {
	t.Helper()
	for end := time.Now().Add(patience); ; {
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

// decide decides with a tag of its own.
func decide(t *testing.T, team *controltest.Team, token, id, verb, tag string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", team.AdminURL+team.Path("approvals", id, verb), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("If-Match", tag)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var text strings.Builder
	if err := response.Write(&text); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, text.String()
}

func TestApproveEach(t *testing.T) {
	team, c, s := guarded(t, map[string]any{"approve": "each"})
	if _, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("material before anything was approved: %v", err)
	}
	first := asking(t, s, question(c, "r1", "/v1/charges"))
	shown := pending(t, team, 1)[0]
	if shown.Host != "api.stripe.com" || shown.Method != "POST" || shown.Path != "/v1/charges" || shown.Agent != "a" || shown.Sandbox != s.ID ||
		shown.Credential != "v/stripe" || shown.Version != 1 || shown.Scope != control.ApproveEach {
		t.Errorf("a person is shown %+v", shown)
	}
	if status, body := decide(t, team, team.Owner, shown.ID, "approve", ""); status != 428 {
		t.Errorf("without If-Match: %d %s", status, body)
	}
	if status, body := decide(t, team, team.Owner, shown.ID, "approve", `"other"`); status != 412 {
		t.Errorf("of what was not shown: %d %s", status, body)
	}
	if status, body := decide(t, team, team.Owner, shown.ID, "approve", "*"); status != 412 {
		t.Errorf("of whatever is asked: %d %s", status, body)
	}
	if status, body := decide(t, team, team.Owner, shown.ID, "approve", shown.Tag()); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	if d := <-first; d != approved {
		t.Errorf("the sidecar heard %v", d)
	}
	if _, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); connect.CodeOf(err) == connect.CodeFailedPrecondition {
		// The helper says nothing of limits, as an old sidecar.
		if _, err = s.Client.Fetch(t.Context(), connect.NewRequest(&api.FetchRequest{CredentialId: c.ID, Version: 1, Host: "api.stripe.com", Limits: true})); err != nil {
			t.Errorf("material after the approval: %v", err)
		}
	} else {
		t.Errorf("a sidecar that keeps no limits got the material: %v", err)
	}
	// It is good for that request alone, and for what was shown of it.
	if _, err := s.Client.Approve(t.Context(), connect.NewRequest(question(c, "r1", "/v1/refunds"))); err == nil {
		t.Error("the same approval for another path")
	}
	second := asking(t, s, question(c, "r2", "/v1/charges"))
	shown = pending(t, team, 1)[0]
	if status, _ := decide(t, team, team.Owner, shown.ID, "deny", shown.Tag()); status != 200 {
		t.Error("it can't be denied")
	}
	if d := <-second; d != denied {
		t.Errorf("the sidecar heard %v", d)
	}
	if d := <-asking(t, s, question(c, "r3", "/v1/charges")); d != denied {
		t.Errorf("asked again at once: %v", d)
	}
	kinds := make(map[string]int)
	for _, e := range team.Events(t) {
		kinds[e.Kind]++
		if e.Kind == "approval.approve" && (e.Actor != "token:owner" || e.Path != "/v1/charges" || e.Sandbox != s.ID || e.Credential != "v/stripe") {
			t.Errorf("the event is %+v", e)
		}
	}
	if kinds["approval.ask"] != 2 || kinds["approval.approve"] != 1 || kinds["approval.deny"] != 1 {
		t.Errorf("events %v", kinds)
	}
}

// Of many who decide at once one decides.
func TestOneDecisionWins(t *testing.T) {
	team, c, s := guarded(t, map[string]any{"approve": "each"})
	answer := asking(t, s, question(c, "r1", "/"))
	shown := pending(t, team, 1)[0]
	var mu sync.Mutex
	var won []string
	var deciding sync.WaitGroup
	for i := range 8 {
		verb := []string{"approve", "deny"}[i%2]
		deciding.Go(func() {
			switch status, body := decide(t, team, team.Owner, shown.ID, verb, shown.Tag()); status {
			case 200:
				mu.Lock()
				defer mu.Unlock()
				won = append(won, verb)
			case 409:
			default:
				t.Errorf("%d %s", status, body)
			}
		})
	}
	deciding.Wait()
	if d := <-answer; len(won) != 1 || (d == approved) != (won[0] == "approve") {
		t.Errorf("%v decided, the sidecar heard %v", won, d)
	}
}

func TestApproveFirst(t *testing.T) {
	team, c, s := guarded(t, map[string]any{"approve": "first"})
	answer := asking(t, s, question(c, "r1", "/a"))
	shown := pending(t, team, 1)[0]
	decide(t, team, team.Owner, shown.ID, "approve", shown.Tag())
	if d := <-answer; d != approved {
		t.Errorf("the first: %v", d)
	}
	if d := <-asking(t, s, question(c, "r2", "/b")); d != approved {
		t.Errorf("the second: %v", d)
	}
	other := team.Join(t)
	waiting := asking(t, other, question(c, "r1", "/a"))
	shown = pending(t, team, 1)[0]
	// Rotated between the look and the decision: nobody knows what was meant.
	team.Must(t, "POST", "vaults/v/credentials/stripe/rotate", map[string]any{"secret": "sk_live_canary_2"}, nil)
	if status, body := decide(t, team, team.Owner, shown.ID, "approve", shown.Tag()); status != 409 {
		t.Errorf("of the version before: %d %s", status, body)
	}
	_ = waiting // which ends when it asks again
	c.Version = 2
	again := asking(t, s, question(c, "r3", "/a"))
	shown = pending(t, team, 2)[0]
	if shown.Version != 2 {
		shown = pending(t, team, 2)[1]
	}
	decide(t, team, team.Owner, shown.ID, "deny", shown.Tag())
	if d := <-again; d != denied {
		t.Errorf("the approval of version 1 is one of version 2: %v", d)
	}
}

func TestApprovalEndsByItself(t *testing.T) {
	team, c, s := guarded(t, map[string]any{"approve": "each", "approve_timeout": "1s"})
	answer := asking(t, s, question(c, "r1", "/"))
	shown := pending(t, team, 1)[0]
	if d := <-answer; d != tooLate {
		t.Errorf("the sidecar heard %v", d)
	}
	if status, body := decide(t, team, team.Owner, shown.ID, "approve", shown.Tag()); status != 409 || !strings.Contains(body, "in time") {
		t.Errorf("a late decision: %d %s", status, body)
	}
	if _, err := s.Client.Approve(t.Context(), connect.NewRequest(&api.ApproveRequest{Request: "r2", Withdraw: true})); err != nil {
		t.Errorf("what was never asked is withdrawn: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = s.Client.Approve(ctx, connect.NewRequest(question(c, "r3", "/")))
}

// Questions of one sandbox are bounded, and those withdrawn make room.
func TestApprovalsAreBounded(t *testing.T) {
	team, c, s := guarded(t, map[string]any{"approve": "each"})
	for i := range 16 {
		asking(t, s, question(c, "r"+string(rune('a'+i)), "/"+string(rune('a'+i))))
	}
	waiting := pending(t, team, 16)
	if d := <-asking(t, s, question(c, "more", "/more")); d != busy {
		t.Errorf("the 17th: %v", d)
	}
	if _, err := s.Client.Approve(t.Context(), connect.NewRequest(&api.ApproveRequest{Request: "ra", Withdraw: true})); err != nil {
		t.Fatal(err)
	}
	pending(t, team, 15)
	at := slices.IndexFunc(waiting, func(a control.Approval) bool { return a.Path == "/a" })
	if status, body := decide(t, team, team.Owner, waiting[at].ID, "approve", waiting[at].Tag()); status != 409 || !strings.Contains(body, "gone") {
		t.Errorf("what was withdrawn: %d %s", status, body)
	}
	for _, a := range pending(t, team, 15) {
		decide(t, team, team.Owner, a.ID, "deny", a.Tag())
	}
}

// Nobody of another team sees a question or decides it, nor does one who may only
// look, nor the sandbox with what it has.
func TestWhoMayDecide(t *testing.T) {
	team, c, s := guarded(t, map[string]any{"approve": "each"})
	other := plane.NewTeam(t)
	answer := asking(t, s, question(c, "r1", "/"))
	shown := pending(t, team, 1)[0]
	if status, _ := decide(t, other, other.Owner, shown.ID, "approve", shown.Tag()); status != 404 {
		t.Errorf("through another team: %d", status)
	}
	pending(t, other, 0)
	var viewer struct{ Value string }
	team.Must(t, "POST", "tokens", map[string]any{"name": "v", "role": "viewer"}, &viewer)
	if status, _ := decide(t, team, viewer.Value, shown.ID, "approve", shown.Tag()); status != 403 {
		t.Errorf("a viewer: %d", status)
	}
	if status, _ := decide(t, team, "sp_"+strings.Repeat("x", 43), shown.ID, "approve", shown.Tag()); status != 401 {
		t.Errorf("no token: %d", status)
	}
	if _, err := s.Client.Approve(t.Context(), connect.NewRequest(question(c, "r1", strings.Repeat("/x", 1000)))); connect.CodeOf(err) != connect.CodeInvalidArgument && connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("a path that can't be shown: %v", err)
	}
	thief := team.Join(t)
	if _, err := thief.Client.Approve(t.Context(), connect.NewRequest(&api.ApproveRequest{CredentialId: store.NewID(), Version: 1, Host: "api.stripe.com", Request: "x"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("about a credential that is not the sandbox's: %v", err)
	}
	if _, err := thief.Client.Approve(t.Context(), connect.NewRequest(&api.ApproveRequest{Request: "r1", Withdraw: true})); err != nil {
		t.Errorf("withdraw: %v", err)
	}
	pending(t, team, 1) // another sandbox can't withdraw it
	decide(t, team, team.Owner, shown.ID, "approve", shown.Tag())
	if d := <-answer; d != approved {
		t.Errorf("the sidecar heard %v", d)
	}
}
