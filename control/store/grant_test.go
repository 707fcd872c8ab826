package store

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

func (f *fixture) grant(sandboxID, credentialID string, version int64) (Lease, error) {
	return f.Grant(f.t.Context(), Grant{
		TeamID: f.Team.ID, SandboxID: sandboxID, CredentialID: credentialID, Version: version,
		Host: "api.stripe.com", FreshFor: time.Minute, HardFor: time.Hour,
	})
}

func TestGrant(t *testing.T) {
	f := newFixture(t)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	b := f.sandbox("billing")
	lease := got(f.grant(b.ID, c.ID, 1))(t)
	if d := lease.HardExpiry.Sub(lease.FreshUntil); d != 59*time.Minute {
		t.Errorf("between fresh and hard lie %v", d)
	}
	events, _, err := f.Events(t.Context(), f.Team.ID, Page{})
	if err != nil || len(events) != 1 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	want := control.Event{
		ID: events[0].ID, Time: events[0].Time, Kind: "grant", Actor: "sandbox:" + b.ID, Agent: "billing", Sandbox: b.ID,
		Host: "api.stripe.com", Credential: "prod/stripe", Version: 1, Lease: lease.ID,
	}
	if events[0] != want || want.Time.IsZero() {
		t.Errorf("the event is %+v, want %+v", events[0], want)
	}
}

func TestBound(t *testing.T) {
	f := newFixture(t)
	v := f.vault("prod")
	c := f.credential(v, "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	b := f.sandbox("billing")
	bound := got(f.Bound(t.Context(), f.Team.ID, b.ID, c.ID, 1))(t)
	want := control.SecretIdentity{Team: f.Team.ID, Vault: v.ID, Credential: c.ID, Version: 1, Field: "secret"}
	if bound.Identity != want || bound.Key.KEK != "kek" || string(bound.Secret.Ciphertext) != "ciphertext" || bound.Credential.Name != "stripe" {
		t.Errorf("bound is %+v", bound)
	}
}

// TestRefusedGrants asks for what a sandbox may not have; nothing may be told of why.
func TestRefusedGrants(t *testing.T) {
	f := newFixture(t)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	hidden := f.credential(f.vault("unpinned"), "hidden", "api.hidden.com")
	rotated := f.credential(got(f.Vault(t.Context(), f.Team.ID, "prod"))(t), "rotated", "api.rotated.com")
	if _, _, err := f.RotateCredential(t.Context(), f.Team.ID, rotated.ID, 1, secret(), testAct()); err != nil {
		t.Fatal(err)
	}
	thief := f.another("thief")
	foreign := thief.credential(thief.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	b, revoked, pending := f.sandbox("billing"), f.sandbox("billing"), f.pending("billing", "token")
	got(f.RevokeSandbox(t.Context(), f.Team.ID, revoked.ID, testAct()))(t)

	messages := make(map[string]bool)
	for name, test := range map[string]struct {
		sandbox, credential string
		version             int64
		code                control.Code
	}{
		"none there":       {b.ID, NewID(), 1, control.CodeNotFound},
		"no id":            {b.ID, "'; --", 1, control.CodeNotFound},
		"not pinned":       {b.ID, hidden.ID, 1, control.CodeNotFound},
		"another team's":   {b.ID, foreign.ID, 1, control.CodeNotFound},
		"an old version":   {b.ID, rotated.ID, 1, control.CodeNotFound},
		"a future version": {b.ID, rotated.ID, 3, control.CodeNotFound},
		"revoked":          {revoked.ID, c.ID, 1, control.CodeForbidden},
		"not enrolled":     {pending.ID, c.ID, 1, control.CodeForbidden},
		"no sandbox":       {NewID(), c.ID, 1, control.CodeForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.grant(test.sandbox, test.credential, test.version)
			wantCode(t, err, test.code)
			messages[string(test.code)+err.Error()] = true
			_, err = f.Bound(t.Context(), f.Team.ID, test.sandbox, test.credential, test.version)
			wantCode(t, err, test.code)
			messages[string(test.code)+err.Error()] = true
		})
	}
	if len(messages) != 2 {
		t.Errorf("refusals differ: %v", messages)
	}
	if n := got(one(t.Context(), f.pool, "leases", pgx.RowTo[int], `select count(*) from leases`))(t); n != 0 || f.kinds() != "" {
		t.Errorf("%d leases and the events %q remain of refused grants", n, f.kinds())
	}
}

// TestNoGrantAfterTheChange grants without pause; none may follow the change
// that takes the credential away.
func TestNoGrantAfterTheChange(t *testing.T) {
	f := newFixture(t)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	for name, change := range map[string]func(b control.Sandbox) error{
		"unpin": func(control.Sandbox) error {
			_, err := f.Unpin(t.Context(), f.Team.ID, "billing", "prod", testAct())
			return err
		},
		"revoke": func(b control.Sandbox) error {
			_, err := f.RevokeSandbox(t.Context(), f.Team.ID, b.ID, testAct())
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			got(f.Pin(t.Context(), f.Team.ID, "billing", "prod", testAct()))(t)
			b := f.sandbox("billing")
			granted, over := make(chan struct{}, 1), make(chan error, 1)
			go func() {
				for {
					if _, err := f.grant(b.ID, c.ID, 1); err != nil {
						over <- err
						return
					}
					select {
					case granted <- struct{}{}:
					default:
					}
				}
			}()
			<-granted
			if err := change(b); err != nil {
				t.Fatal(err)
			}
			count := func() int {
				return got(one(context.Background(), f.pool, "leases", pgx.RowTo[int], `select count(*) from leases where sandbox_id = $1`, b.ID))(t)
			}
			before := count()
			if err := <-over; control.CodeOf(err) == "" {
				t.Error(err)
			}
			if after := count(); after != before {
				t.Errorf("%d grants after the change", after-before)
			}
		})
	}
}

func TestExpiredLeasesGo(t *testing.T) {
	f := newFixture(t)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	b := f.sandbox("billing")
	for range 3 {
		_, err := f.Grant(t.Context(), Grant{TeamID: f.Team.ID, SandboxID: b.ID, CredentialID: c.ID, Version: 1, HardFor: 0})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := got(one(t.Context(), f.pool, "leases", pgx.RowTo[int], `select count(*) from leases`))(t); n != 1 {
		t.Errorf("%d leases are kept", n)
	}
	if kinds := f.kinds(); strings.Count(kinds, "grant") != 3 {
		t.Errorf("events: %s", kinds)
	}
}
