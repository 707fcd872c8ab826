package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/sidecar/approve"
)

// A request waits at one replica and a person decides at another; or nobody does in
// time; or the replica dies under it.
func TestApprovalOverReplicas(t *testing.T) {
	both := newReplicas(t)
	first, second := both.running[0], both.running[1]
	for _, step := range []struct{ method, path, body string }{
		{"POST", "vaults", `{"name":"v"}`},
		{"POST", "vaults/v/credentials", `{"name":"stripe","service":"stripe","secret":"sk_live_1_of_a_test","limits":{"approve":"each"}}`},
		{"POST", "agents", `{"name":"a"}`},
		{"PUT", "agents/a/pins/v", ``},
	} {
		if status, body := first.call(t, step.method, "/v1/teams/default/"+step.path, step.body); status/100 != 2 {
			t.Fatalf("%s: %d %s", step.path, status, body)
		}
	}
	_, body := first.call(t, "POST", "/v1/teams/default/agents/a/sandboxes", "")
	var made struct {
		JoinToken string `json:"join_token"`
	}
	if err := json.Unmarshal([]byte(body), &made); err != nil {
		t.Fatal(err)
	}
	s := newSandbox(t, first.sidecar+","+second.sidecar, made.JoinToken)
	desk := approve.New(s.Client())
	t.Cleanup(desk.Wait)
	asked := 0
	ask := func(ctx context.Context, patience time.Duration) <-chan error {
		asked++
		b := &api.Binding{CredentialId: s.credential.Load().(string), Version: s.version.Load(), Limits: &api.Limits{
			Approval: api.Approval_APPROVAL_EACH, ApprovalTimeout: durationpb.New(patience),
		}}
		q := approve.Question{Host: "api.stripe.com", Port: 443, Method: "POST", Path: fmt.Sprint("/v1/refunds/", asked), Request: fmt.Sprint("r", asked)}
		decided := make(chan error, 1)
		go func() { decided <- desk.Ask(ctx, b, q) }()
		return decided
	}
	answer := func(what string, decided <-chan error) error {
		t.Helper()
		select {
		case err := <-decided:
			return err
		case <-time.After(patience):
			t.Fatalf("%s: the request does not hear of it", what)
			return nil
		}
	}
	for _, verb := range []string{"approve", "deny"} {
		for name, other := range map[string]*program{"the same": first, "another": second} {
			decided := ask(t.Context(), time.Minute)
			if status, body := other.decide(t, verb); status != 200 {
				t.Errorf("%s at %s replica: %d %s", verb, name, status, body)
			}
			if err := answer(verb, decided); verb == "approve" && err != nil || verb == "deny" && !errors.Is(err, approve.ErrDenied) {
				t.Errorf("%s at %s replica: %v", verb, name, err)
			}
		}
	}

	// The client goes while it waits: the other replica has no question of it any more.
	leaving, leave := context.WithCancel(t.Context())
	decided := ask(leaving, time.Minute)
	second.waits(t, 1)
	leave()
	if err := answer("leaving", decided); !errors.Is(err, context.Canceled) {
		t.Errorf("it left: %v", err)
	}
	second.waits(t, 0)

	// The replica that it waits at dies, and the other is where both sides go on.
	decided = ask(t.Context(), time.Minute)
	second.waits(t, 1)
	first.end(t, syscall.SIGKILL)
	if status, body := second.decide(t, "approve"); status != 200 {
		t.Errorf("after the other replica's end: %d %s", status, body)
	}
	if err := answer("approve", decided); err != nil {
		t.Errorf("approved after its replica's end: %v", err)
	}

	if status, body := second.call(t, "PATCH", "/v1/teams/default/vaults/v/credentials/stripe", `{"limits":{"approve_timeout":"1s"}}`); status != 200 {
		t.Fatal(status, body)
	}
	if err := answer("nobody", ask(t.Context(), time.Second)); !errors.Is(err, approve.ErrTimeout) {
		t.Errorf("nobody has decided: %v", err)
	}
	_, log := second.call(t, "GET", "/v1/teams/default/audit?limit=1000", "")
	if strings.Contains(log, `"sandbox.alert"`) || strings.Contains(log, `"sandbox.lock"`) {
		t.Errorf("moving to the other replica looks like a theft: %s", log)
	}
}

// approvals are those that wait.
func (p *program) approvals(t *testing.T) []control.Approval {
	t.Helper()
	status, body := p.call(t, "GET", "/v1/teams/default/approvals", "")
	var page struct{ Items []control.Approval }
	if err := json.Unmarshal([]byte(body), &page); err != nil || status != 200 {
		t.Fatal(status, body)
	}
	return page.Items
}

// waits waits until n questions do.
func (p *program) waits(t *testing.T, n int) {
	t.Helper()
	wait(t, "question, or there is one more", func() bool { return len(p.approvals(t)) == n })
}

// decide decides about the one question that waits.
func (p *program) decide(t *testing.T, verb string) (int, string) {
	t.Helper()
	p.waits(t, 1)
	shown := p.approvals(t)[0]
	token, err := os.ReadFile(filepath.Join(p.dir, "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", p.admin+"/v1/teams/default/approvals/"+shown.ID+"/"+verb, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	r.Header.Set("If-Match", shown.Tag())
	return do(t, http.DefaultClient, r)
}
