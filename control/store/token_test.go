package store

import (
	"testing"
	"time"

	"sallyport/control"
)

func TestTokens(t *testing.T) {
	f := newFixture(t)
	ctx, past := t.Context(), time.Now().Add(-time.Minute)
	global := got(f.CreateToken(ctx, "", control.Token{Name: "root", Role: control.RoleOwner}, hash("root")))(t)
	team := got(f.CreateToken(ctx, f.Team.ID, control.Token{Name: "root", Role: control.RoleViewer}, hash("team")))(t)
	got(f.CreateToken(ctx, f.Team.ID, control.Token{Name: "old", Role: control.RoleViewer, ExpiresAt: &past}, hash("old")))(t)
	if global.Team != "" || team.Team != "default" {
		t.Errorf("tokens of teams %q and %q", global.Team, team.Team)
	}
	for _, id := range []string{"", f.Team.ID} {
		_, err := f.CreateToken(ctx, id, control.Token{Name: "root", Role: control.RoleViewer}, hash(NewID()))
		wantCode(t, err, control.CodeConflict, "root")
	}
	if read := got(f.TokenByHash(ctx, hash("team")))(t); read != team {
		t.Errorf("read %+v, want %+v", read, team)
	}
	for _, value := range []string{"old", "unknown"} {
		_, err := f.TokenByHash(ctx, hash(value))
		wantCode(t, err, control.CodeUnauthorized)
	}
	if err := f.DeleteToken(ctx, "", "root"); err != nil {
		t.Fatal(err)
	}
	_, err := f.TokenByHash(ctx, hash("root"))
	wantCode(t, err, control.CodeUnauthorized)
	if list, _, err := f.Tokens(ctx, f.Team.ID, Page{}); err != nil || len(list) != 2 {
		t.Errorf("%d tokens remain, %v", len(list), err)
	}
}
