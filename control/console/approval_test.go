package console_test

import (
	"strings"
	"testing"

	"sallyport/control"
	"sallyport/control/controltest"
	"sallyport/control/store"
)

// limited has each request with the credential wait for a person; it gives its id.
func limited(t *testing.T, team *controltest.Team, c control.Credential) string {
	t.Helper()
	team.Must(t, "PATCH", "vaults/v/credentials/"+c.Name, map[string]any{"limits": map[string]any{"approve": "each"}}, nil)
	return c.ID
}

// approval: what waits comes up by itself, and is decided as it was shown.
func approval(t *testing.T, b *tab, url string) {
	team := plane.NewTeam(t)
	id := limited(t, team, team.Setup(t, "sk_live_0123456789"))
	s := team.Join(t)
	b.signIn(url, tokenOf(t, team, control.RoleMember))
	b.goTo("p", "Approvals")
	b.see("Nothing waits.")
	ask := func(path string) {
		t.Helper()
		if _, err := plane.Store.AskApproval(t.Context(), store.Question{
			TeamID: team.ID, SandboxID: s.ID, CredentialID: id, Version: 1, Host: "api.stripe.com", Port: 443, Method: "POST", Path: path, Request: path,
		}); err != nil {
			t.Fatal(err)
		}
	}
	ask("/v1/charges")
	b.see("/v1/charges")
	b.see("this request alone")
	b.shoot("approvals")
	b.press("Approve")
	b.see("POST api.stripe.com: approved.")
	ask("/v1/payouts")
	b.see("/v1/payouts")
	b.press("Deny")
	b.see("POST api.stripe.com: denied.")
	decided := map[string]control.ApprovalState{}
	all, _, err := plane.Store.Approvals(t.Context(), team.ID, false, store.Page{})
	for _, a := range all {
		decided[a.Path] = a.State
		if !strings.HasPrefix(a.DecidedBy, "token:"+team.Name+"/console-") {
			t.Errorf("%s was decided by %q", a.Path, a.DecidedBy)
		}
	}
	if err != nil || decided["/v1/charges"] != control.ApprovalApproved || decided["/v1/payouts"] != control.ApprovalDenied {
		t.Errorf("decided: %v, %v", decided, err)
	}
}
