package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// captured are n new secrets of one answer.
func captured(n int, ttl time.Duration) []NewSecret {
	var secrets []NewSecret
	for range n {
		c := credential("stripe.key."+strings.ReplaceAll(NewID(), "-", ""), "api.stripe.com")
		secrets = append(secrets, NewSecret{Credential: c, Secret: secret(), TTL: ttl})
	}
	return secrets
}

func (f *fixture) capture(sandboxID, credentialID string, secrets []NewSecret) error {
	_, err := f.Capture(f.t.Context(), Capture{
		TeamID: f.Team.ID, SandboxID: sandboxID, CredentialID: credentialID, Version: 1, OriginID: credentialID,
		Host: "api.stripe.com", RequestID: "r1", Rule: "capture POST /keys json:/key", Secrets: secrets,
	})
	return err
}

// names are those of the credentials that a sandbox may use.
func (f *fixture) names(sandboxID string) string {
	f.t.Helper()
	var names []string
	for _, c := range got(f.Snapshot(f.t.Context(), f.Team.ID, sandboxID))(f.t).Credentials {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

func (f *fixture) stored() int {
	f.t.Helper()
	return got(one(f.t.Context(), f.in(f.Team.ID), "credentials", pgx.RowTo[int], `select count(*) from credentials where sandbox_id is not null and team_id = $1`, f.Team.ID))(f.t)
}

func TestCapture(t *testing.T) {
	f := newFixture(t)
	v := f.vault("prod")
	origin := credential("stripe", "api.stripe.com", "files.stripe.com")
	mint, err := control.ParseMint("capture POST /keys json:/key")
	if err != nil {
		t.Fatal(err)
	}
	origin.Service, origin.Stray, origin.AllowHTTP, origin.Mints = "stripe", control.StrayRedact, true, []control.Mint{mint}
	if _, _, err := f.CreateCredential(t.Context(), f.Team.ID, v.ID, origin, secret(), testAct()); err != nil {
		t.Fatal(err)
	}
	f.agent("billing", "prod")
	b, sibling := f.sandbox("billing"), f.sandbox("billing")
	secrets := captured(2, time.Hour)
	before := f.revision()
	if err := f.capture(b.ID, origin.ID, secrets); err != nil {
		t.Fatal(err)
	}
	if after := f.revision(); after != before+1 {
		t.Errorf("revision %d after %d", after, before)
	}
	first, second := secrets[0].Credential, secrets[1].Credential
	if got := f.names(b.ID); got != "stripe "+first.Name+" "+second.Name {
		t.Errorf("it has %s", got)
	}
	if got := f.names(sibling.ID); got != "stripe" {
		t.Errorf("another sandbox of the agent has %s", got)
	}
	c := got(f.Credential(t.Context(), f.Team.ID, "prod", first.Name))(t)
	if c.Captured == nil || c.Captured.Origin != "stripe" || c.Captured.OriginID != origin.ID || c.Captured.Sandbox != b.ID || time.Until(c.Captured.ExpiresAt) > time.Hour {
		t.Errorf("it is marked %+v", c.Captured)
	}
	if fmt.Sprint(c.Hosts) != "[api.stripe.com]" || c.Service != "stripe" || c.Stray != control.StrayRedact || !c.AllowHTTP || fmt.Sprint(c.Mints) != "[capture POST /keys json:/key]" {
		t.Errorf("it is %+v", c)
	}
	lease := got(f.grant(b.ID, first.ID, 1))(t)
	if lease.HardExpiry.After(c.Captured.ExpiresAt) || lease.FreshUntil.After(c.Captured.ExpiresAt) {
		t.Errorf("a lease until %v of what expires at %v", lease.HardExpiry, c.Captured.ExpiresAt)
	}
	if _, err := f.grant(sibling.ID, first.ID, 1); control.CodeOf(err) != control.CodeNotFound {
		t.Errorf("another sandbox of the agent got it: %v", err)
	}
	if _, err := f.Bound(t.Context(), f.Team.ID, sibling.ID, first.ID, 1); control.CodeOf(err) != control.CodeNotFound {
		t.Errorf("another sandbox of the agent is bound to it: %v", err)
	}
	if p := got(f.Policy(t.Context(), f.Team.ID, "billing"))(t); len(p.Credentials) != 1 {
		t.Errorf("the policy goes beside %d credentials", len(p.Credentials))
	}
	if _, _, err := f.SetMints(t.Context(), f.Team.ID, "prod", first.Name, nil, nil, testAct()); control.CodeOf(err) != control.CodeNotFound {
		t.Errorf("its rules can be set: %v", err)
	}
	events, _, err := f.Events(t.Context(), f.Team.ID, Page{})
	if err != nil {
		t.Fatal(err)
	}
	e := events[len(events)-1]
	want := control.Event{
		ID: e.ID, Time: e.Time, Kind: "credential.capture", Actor: "sandbox:" + b.ID, Agent: "billing", Sandbox: b.ID, RequestID: "r1", Host: "api.stripe.com",
		Credential: "prod/" + first.Name, Version: 1, Detail: "from prod/stripe for 1h0m0s, by the rule 'capture POST /keys json:/key'",
	}
	if e != want {
		t.Errorf("the event is %+v, want %+v", e, want)
	}
}

// What was captured ends with its time, its sandbox, its origin, its vault and its
// agent's pin.
func TestCapturedEnds(t *testing.T) {
	all := newFixture(t)
	for name, end := range map[string]func(f *fixture, b control.Sandbox){
		"its time": func(f *fixture, b control.Sandbox) {
			if _, err := f.in(f.Team.ID).Exec(f.t.Context(), `update credentials set expires_at = now() where sandbox_id = $1`, b.ID); err != nil {
				f.t.Fatal(err)
			}
		},
		"its sandbox": func(f *fixture, b control.Sandbox) {
			got(f.RevokeSandbox(f.t.Context(), f.Team.ID, b.ID, testAct()))(f.t)
		},
		"a locked sandbox": func(f *fixture, b control.Sandbox) {
			if err := f.lockSandbox(f.t.Context(), f.Team.ID, b.ID, "test"); err != nil {
				f.t.Fatal(err)
			}
		},
		"its origin": func(f *fixture, b control.Sandbox) {
			got(f.DeleteCredential(f.t.Context(), f.Team.ID, "prod", "stripe", testAct()))(f.t)
		},
		"its vault": func(f *fixture, b control.Sandbox) {
			got(f.DeleteVault(f.t.Context(), f.Team.ID, "prod", testAct()))(f.t)
		},
		"its agent": func(f *fixture, b control.Sandbox) {
			got(f.DeleteAgent(f.t.Context(), f.Team.ID, "billing", testAct()))(f.t)
		},
		"its pin": func(f *fixture, b control.Sandbox) {
			got(f.Unpin(f.t.Context(), f.Team.ID, "billing", "prod", testAct()))(f.t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := all.another(strings.ReplaceAll(name, " ", "-"))
			c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
			f.agent("billing", "prod")
			b := f.sandbox("billing")
			secrets := captured(1, time.Hour)
			if err := f.capture(b.ID, c.ID, secrets); err != nil {
				t.Fatal(err)
			}
			got(f.grant(b.ID, secrets[0].Credential.ID, 1))(t)
			end(f, b)
			if _, err := f.grant(b.ID, secrets[0].Credential.ID, 1); err == nil {
				t.Error("it is still granted")
			}
			if snapshot, err := f.Snapshot(t.Context(), f.Team.ID, b.ID); err == nil && len(snapshot.Credentials) > 1 {
				t.Errorf("it is still bound: %s", f.names(b.ID))
			}
			if name == "its time" { // and goes with the next lease of the team
				got(f.grant(b.ID, c.ID, 1))(t)
			}
			if n := f.stored(); n != 0 {
				t.Error("it is still stored")
			}
		})
	}
}

func TestCaptureIsRefused(t *testing.T) {
	f := newFixture(t)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	hidden := f.credential(f.vault("unpinned"), "hidden", "api.hidden.com")
	thief := f.another("thief")
	foreign := thief.credential(thief.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	b, sibling, revoked, pending := f.sandbox("billing"), f.sandbox("billing"), f.sandbox("billing"), f.pending("billing", "token")
	got(f.RevokeSandbox(t.Context(), f.Team.ID, revoked.ID, testAct()))(t)
	mine := captured(1, time.Hour)
	if err := f.capture(b.ID, c.ID, mine); err != nil {
		t.Fatal(err)
	}
	before, kinds := f.revision(), f.kinds()
	for name, test := range map[string]struct {
		sandbox, credential string
		code                control.Code
	}{
		"no such credential":  {b.ID, NewID(), control.CodeNotFound},
		"not pinned":          {b.ID, hidden.ID, control.CodeNotFound},
		"another team's":      {b.ID, foreign.ID, control.CodeNotFound},
		"another sandbox's":   {sibling.ID, mine[0].Credential.ID, control.CodeNotFound},
		"revoked":             {revoked.ID, c.ID, control.CodeForbidden},
		"not enrolled":        {pending.ID, c.ID, control.CodeForbidden},
		"no sandbox":          {NewID(), c.ID, control.CodeForbidden},
		"another team's name": {thief.Team.ID, foreign.ID, control.CodeForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			wantCode(t, f.capture(test.sandbox, test.credential, captured(1, time.Hour)), test.code)
		})
	}
	if f.revision() != before || f.kinds() != kinds || f.stored() != 1 {
		t.Error("something remains of what was refused")
	}
}

// A sandbox holds so many and no more; what has expired makes room.
func TestCapturesAreBounded(t *testing.T) {
	f := newFixture(t)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	b, sibling := f.sandbox("billing"), f.sandbox("billing")
	for range maxCaptured / 8 {
		if err := f.capture(b.ID, c.ID, captured(8, time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, f.capture(b.ID, c.ID, captured(1, time.Hour)), control.CodeConflict, "64")
	if err := f.capture(sibling.ID, c.ID, captured(1, time.Hour)); err != nil {
		t.Errorf("another sandbox: %v", err)
	}
	if _, err := f.in(f.Team.ID).Exec(t.Context(), `update credentials set expires_at = now() - interval '1s' where sandbox_id = $1`, b.ID); err != nil {
		t.Fatal(err)
	}
	if err := f.capture(b.ID, c.ID, captured(8, time.Hour)); err != nil {
		t.Errorf("when all had expired: %v", err)
	}
	if n := f.stored(); n != 9 {
		t.Errorf("%d are stored, want 9", n)
	}
}
