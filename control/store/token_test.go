package store

import (
	"testing"
	"time"

	"sallyport/control"
)

func TestTokens(t *testing.T) {
	f := newFixture(t)
	ctx, past := t.Context(), time.Now().Add(-time.Minute)
	global := got(f.CreateToken(ctx, "", control.Token{Name: "root", Role: control.RoleOwner}, hash("root"), testAct()))(t)
	team := got(f.CreateToken(ctx, f.Team.ID, control.Token{Name: "root", Role: control.RoleViewer}, hash("team"), testAct()))(t)
	got(f.CreateToken(ctx, f.Team.ID, control.Token{Name: "old", Role: control.RoleViewer, ExpiresAt: &past}, hash("old"), testAct()))(t)
	if global.Team != "" || team.Team != "default" {
		t.Errorf("tokens of teams %q and %q", global.Team, team.Team)
	}
	for _, id := range []string{"", f.Team.ID} {
		_, err := f.CreateToken(ctx, id, control.Token{Name: "root", Role: control.RoleViewer}, hash(NewID()), testAct())
		wantCode(t, err, control.CodeConflict, "root")
	}
	if read := got(f.TokenByHash(ctx, hash("team")))(t); read != team {
		t.Errorf("read %+v, want %+v", read, team)
	}
	for _, value := range []string{"old", "unknown"} {
		_, err := f.TokenByHash(ctx, hash(value))
		wantCode(t, err, control.CodeUnauthorized)
	}
	got(f.CreateToken(ctx, "", control.Token{Name: "next", Role: control.RoleOwner}, hash("next"), testAct()))(t)
	if err := f.DeleteToken(ctx, "", "root", testAct()); err != nil {
		t.Fatal(err)
	}
	_, err := f.TokenByHash(ctx, hash("root"))
	wantCode(t, err, control.CodeUnauthorized)
	if list, _, err := f.Tokens(ctx, f.Team.ID, Page{}); err != nil || len(list) != 2 {
		t.Errorf("%d tokens remain, %v", len(list), err)
	}
}

// Whoever removed the last could make no other.
func TestLastOwnerStays(t *testing.T) {
	f := newFixture(t)
	ctx, past := t.Context(), time.Now().Add(-time.Minute)
	for name, token := range map[string]control.Token{
		"old":    {Name: "old", Role: control.RoleOwner, ExpiresAt: &past},
		"viewer": {Name: "viewer", Role: control.RoleViewer},
		"a":      {Name: "a", Role: control.RoleOwner},
		"b":      {Name: "b", Role: control.RoleOwner},
	} {
		got(f.CreateToken(ctx, "", token, hash(name), testAct()))(t)
	}
	got(f.CreateToken(ctx, f.Team.ID, control.Token{Name: "team", Role: control.RoleOwner}, hash("team"), testAct()))(t)
	errs := make(chan error)
	for _, name := range []string{"a", "b"} {
		go func() { errs <- f.DeleteToken(ctx, "", name, testAct()) }()
	}
	first, second := <-errs, <-errs
	if first == nil {
		first, second = second, first
	}
	wantCode(t, first, control.CodeConflict, "last owner")
	if second != nil {
		t.Error(second)
	}
	for _, name := range []string{"old", "viewer"} {
		if err := f.DeleteToken(ctx, "", name, testAct()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.DeleteToken(ctx, f.Team.ID, "team", testAct()); err != nil {
		t.Errorf("a team's only owner: %v", err)
	}
}
