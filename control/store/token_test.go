package store

import (
	"slices"
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

// TestTokenRotation: the value before is good for the overlap, and only that.
func TestTokenRotation(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	got(f.CreateToken(ctx, f.Team.ID, control.Token{Name: "ci", Role: control.RoleMember}, hash("1"), testAct()))(t)
	never := func(control.Token) (*time.Time, error) { return nil, nil }
	rotate := func(value string, overlap time.Duration) control.Token {
		t.Helper()
		return got(f.RotateToken(ctx, f.Team.ID, "ci", hash(value), overlap, never, testAct()))(t)
	}
	good := func(values ...string) {
		t.Helper()
		for _, value := range []string{"1", "2", "3"} {
			_, err := f.TokenByHash(ctx, hash(value))
			if want := slices.Contains(values, value); (err == nil) != want {
				t.Errorf("the value %s: %v", value, err)
			}
		}
	}
	good("1")
	if r := rotate("2", time.Hour); r.RotatedAt == nil || r.PreviousUntil == nil || time.Until(*r.PreviousUntil) > time.Hour {
		t.Errorf("the token is %+v", r)
	}
	good("1", "2")
	rotate("3", time.Hour)
	good("2", "3")
	got(f.pool.Exec(ctx, `update tokens set previous_until = now()`))(t)
	good("3")
	rotate("1", time.Hour)
	if r := rotate("2", 0); r.PreviousUntil != nil {
		t.Errorf("the token is %+v", r)
	}
	good("2")
	_, err := f.RotateToken(ctx, f.Team.ID, "none", hash("4"), 0, never, testAct())
	wantCode(t, err, control.CodeNotFound, "none")
}

// TestLastUse is known, and not written down at every use.
func TestLastUse(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	got(f.CreateToken(ctx, f.Team.ID, control.Token{Name: "ci", Role: control.RoleMember}, hash("1"), testAct()))(t)
	used := func() *time.Time {
		got(f.TokenByHash(ctx, hash("1")))(t)
		tokens, _, err := f.Tokens(ctx, f.Team.ID, Page{})
		if err != nil || len(tokens) != 1 || tokens[0].LastUsedAt == nil {
			t.Fatalf("%+v, %v", tokens, err)
		}
		return tokens[0].LastUsedAt
	}
	first := used()
	if again := used(); !again.Equal(*first) {
		t.Errorf("written down again after %s", again.Sub(*first))
	}
	got(f.pool.Exec(ctx, `update tokens set last_used_at = now() - interval '6 minutes'`))(t)
	if later := used(); later.Before(*first) {
		t.Errorf("its last use is %s, before %s", later, first)
	}
}
