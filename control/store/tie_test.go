package store

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

func TestTies(t *testing.T) {
	f := newFixture(t)
	f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.credential(f.vault("test"), "stripe", "API.Stripe.com.:443")
	f.credential(f.vault("wild"), "any", "*.stripe.com")
	f.credential(f.vault("port"), "alt", "api.stripe.com:8443")
	f.agent("billing", "prod", "wild", "port") // most specific wins, and another port is another place
	pin := func(vault string) error {
		_, err := f.Pin(t.Context(), f.Team.ID, "billing", vault, testAct())
		return err
	}
	create := func(vault, host string) error {
		v := got(f.Vault(t.Context(), f.Team.ID, vault))(t)
		_, _, err := f.CreateCredential(t.Context(), f.Team.ID, v.ID, credential("new", host), secret(), testAct())
		return err
	}

	before := f.revision()
	wantCode(t, pin("test"), control.CodeConflict, "prod/stripe", "test/stripe", "api.stripe.com", `"billing"`, "unpin")
	wantCode(t, create("wild", "api.stripe.com"), control.CodeConflict, "prod/stripe", "wild/new", "api.stripe.com")
	wantCode(t, create("port", "*.Stripe.com"), control.CodeConflict, "wild/any", "port/new", "*.stripe.com")
	wantCode(t, create("prod", "api.stripe.com"), control.CodeConflict, "prod/new", "prod/stripe", "api.stripe.com")
	wantCode(t, create("test", "api.stripe.com"), control.CodeConflict, "test/new", "test/stripe") // pinned nowhere
	if a := got(f.Agent(t.Context(), f.Team.ID, "billing"))(t); strings.Join(a.Vaults, " ") != "port prod wild" || f.revision() != before {
		t.Errorf("a refused change left %v at revision %d", a.Vaults, f.revision())
	}

	got(f.Unpin(t.Context(), f.Team.ID, "billing", "prod", testAct()))(t)
	if err := pin("test"); err != nil {
		t.Errorf("after the unpin: %v", err)
	}
	if err := pin("test"); err != nil {
		t.Errorf("pinning again: %v", err)
	}
	if err := create("prod", "dashboard.stripe.com"); err != nil {
		t.Errorf("a host of its own: %v", err)
	}
	_, err := f.Unpin(t.Context(), f.Team.ID, "billing", "prod", testAct())
	wantCode(t, err, control.CodeNotFound, "prod", "billing")
}

// Over plain HTTP two patterns that differ may be one place.
func TestPlainTies(t *testing.T) {
	f := newFixture(t)
	add := func(vault, host string, allowHTTP bool) error {
		v := got(f.Vault(t.Context(), f.Team.ID, vault))(t)
		c := credential("c"+NewID()[30:], host)
		c.AllowHTTP = allowHTTP
		_, _, err := f.CreateCredential(t.Context(), f.Team.ID, v.ID, c, secret(), testAct())
		return err
	}
	f.vault("a")
	f.vault("b")
	f.agent("billing", "a", "b")
	if err := add("a", "api.example.com", true); err != nil { // TLS on 443, plain on 80
		t.Fatal(err)
	}
	wantCode(t, add("b", "api.example.com:80", true), control.CodeConflict, "api.example.com:80", "plain HTTP")
	wantCode(t, add("a", "api.example.com:80", true), control.CodeConflict, "api.example.com:80", "plain HTTP")
	for _, fine := range []struct {
		host      string
		allowHTTP bool
	}{{"api.example.com:80", false}, {"api.example.com:8080", true}, {"*.example.com", true}, {"other.example.com", true}} {
		if err := add("b", fine.host, fine.allowHTTP); err != nil {
			t.Errorf("%+v: %v", fine, err)
		}
	}
	wantCode(t, add("b", "*.example.com:80", true), control.CodeConflict, "*.example.com:80")
}

// TestPinRace pins tying vaults to one agent, and adds tying credentials to its
// vaults, all at once.
func TestPinRace(t *testing.T) {
	f := newFixture(t)
	const n = 12
	for i := range n {
		f.credential(f.vault(fmt.Sprintf("vault-%d", i)), "key", "api.example.com")
		f.vault(fmt.Sprintf("empty-%d", i))
	}
	f.agent("billing")
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			if _, err := f.Pin(t.Context(), f.Team.ID, "billing", fmt.Sprintf("vault-%d", i), testAct()); err != nil && control.CodeOf(err) != control.CodeConflict {
				t.Error(err)
			}
		})
		group.Go(func() {
			name := fmt.Sprintf("empty-%d", i)
			if _, err := f.Pin(t.Context(), f.Team.ID, "billing", name, testAct()); err != nil {
				t.Error(err)
			}
			v, err := f.Vault(t.Context(), f.Team.ID, name)
			if err != nil {
				t.Error(err)
				return
			}
			_, _, err = f.CreateCredential(t.Context(), f.Team.ID, v.ID, credential("late", "api.example.com"), secret(), testAct())
			if err != nil && control.CodeOf(err) != control.CodeConflict {
				t.Error(err)
			}
		})
	}
	group.Wait()
	reached := got(one(context.Background(), f.pool, "count", pgx.RowTo[int], `
		select count(*) from pins p join credential_hosts h on h.vault_id = p.vault_id where h.pattern = 'api.example.com'`))(t)
	if reached != 1 {
		t.Errorf("the agent reaches %d credentials for one host", reached)
	}
}
