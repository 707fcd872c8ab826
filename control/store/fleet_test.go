package store

import (
	"reflect"
	"testing"
	"time"

	"sallyport/control"
	"sallyport/control/api"
)

// What is read for a whole fleet is what is read for each of its sandboxes.
func TestFleet(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	prod, other := f.vault("prod"), f.vault("other")
	mint := got(control.ParseMint("capture POST /keys json:/key"))(t)
	origin := credential("stripe", "api.stripe.com")
	origin.Mints = []control.Mint{mint}
	if _, _, err := f.CreateCredential(ctx, f.Team.ID, prod.ID, origin, secret(), testAct()); err != nil {
		t.Fatal(err)
	}
	f.credential(prod, "notion", "api.notion.com")
	f.credential(other, "github", "api.github.com")
	f.credential(f.vault("unpinned"), "slack", "slack.com")
	f.agent("both", "prod", "other")
	f.agent("one", "other")
	f.agent("none")
	if _, err := f.SetPolicy(ctx, f.Team.ID, "one", control.Policy{Default: "deny"}, nil, testAct()); err != nil {
		t.Fatal(err)
	}
	held := []control.Sandbox{f.sandbox("both"), f.sandbox("both"), f.sandbox("one"), f.sandbox("none")}
	for _, b := range held {
		got(f.OpenStream(ctx, f.Team.ID, Opening{b.ID, hash("key"), api.Opening{Worker: 1, Stream: 1}}, "here"))(t)
	}
	elsewhere := f.sandbox("both")
	got(f.OpenStream(ctx, f.Team.ID, Opening{elsewhere.ID, hash("key"), api.Opening{Worker: 1, Stream: 1}}, "there"))(t)
	if err := f.capture(held[0].ID, origin.ID, captured(1, time.Hour)); err != nil {
		t.Fatal(err)
	}

	same := func() {
		t.Helper()
		fleet := got(f.Fleet(ctx, f.Team.ID, "here"))(t)
		for _, b := range held {
			one := got(f.Snapshot(ctx, f.Team.ID, b.ID))(t)
			many, found := fleet.Snapshot(b.ID)
			many.Shared = ""
			if !found && one.State != control.SandboxEnrolled {
				continue // it is asked for by itself
			}
			if len(one.Credentials) == 0 && len(many.Credentials) == 0 {
				one.Credentials, many.Credentials = nil, nil
			}
			if !found || !reflect.DeepEqual(one, many) {
				t.Errorf("a sandbox of %s in the fleet: %v\n%+v\nby itself:\n%+v", b.Agent, found, many, one)
			}
		}
		if _, found := fleet.Snapshot(elsewhere.ID); found {
			t.Error("a sandbox of another replica is in the fleet")
		}
	}
	same()
	if n := len(got(f.Snapshot(ctx, f.Team.ID, held[0].ID))(t).Credentials); n != 4 {
		t.Fatalf("%d credentials, want 3 and the captured one", n)
	}
	if _, err := f.RevokeSandbox(ctx, f.Team.ID, held[1].ID, testAct()); err != nil {
		t.Fatal(err)
	}
	same()
}
