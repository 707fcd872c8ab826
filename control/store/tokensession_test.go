package store

import (
	"fmt"
	"testing"
	"time"

	"sallyport/control"
)

// TestTokenSessionsEnd: by not being used, by age, by being revoked, with the value of
// their token, by newer ones.
func TestTokenSessionsEnd(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	for _, team := range []string{f.Team.ID, ""} {
		name := "t" + team
		got(f.CreateToken(ctx, team, control.Token{Name: name, Role: control.RoleAdmin}, hash(name), testAct()))(t)
		begin := func(value string) time.Time {
			t.Helper()
			return got(f.CreateTokenSession(ctx, hash(name), hash(value), time.Hour, 3*time.Hour, testAct()))(t)
		}
		over := func(value string) {
			t.Helper()
			_, err := f.TokenBySession(ctx, hash(value))
			wantCode(t, err, control.CodeUnauthorized)
		}
		ends := begin("s1")
		read := got(f.TokenBySession(ctx, hash("s1")))(t)
		if read.Name != name || read.ExpiresAt == nil || !read.ExpiresAt.Equal(ends) || time.Until(ends) < 2*time.Hour {
			t.Errorf("read %+v, ends %v", read, ends)
		}
		over("guess")
		over(name) // a token is no session
		got(f.pool.Exec(ctx, `update token_sessions set last_used_at = now() - interval '59 minutes'`))(t)
		got(f.TokenBySession(ctx, hash("s1")))(t)
		got(f.pool.Exec(ctx, `update token_sessions set last_used_at = last_used_at - interval '59 minutes'`))(t)
		got(f.TokenBySession(ctx, hash("s1")))(t) // its use was noted
		got(f.pool.Exec(ctx, `update token_sessions set last_used_at = now() - interval '61 minutes'`))(t)
		over("s1")
		begin("s2")
		got(f.pool.Exec(ctx, `update token_sessions set expires_at = now()`))(t)
		over("s2")
		begin("s3")
		if err := f.DeleteTokenSession(ctx, hash("s3"), testAct()); err != nil {
			t.Fatal(err)
		}
		over("s3")
		wantCode(t, f.DeleteTokenSession(ctx, hash("s3"), testAct()), control.CodeNotFound)

		for i := range maxSessions + 1 {
			begin(fmt.Sprint("m", i))
		}
		over("m0")
		got(f.TokenBySession(ctx, hash("m1")))(t)
		last := fmt.Sprint("m", maxSessions)
		soon := time.Now().Add(time.Minute).UTC()
		end := func(control.Token) (*time.Time, error) { return &soon, nil }
		got(f.RotateToken(ctx, team, name, hash(name+"-2"), time.Hour, end, testAct()))(t)
		if read = got(f.TokenBySession(ctx, hash(last)))(t); read.ExpiresAt.After(soon) {
			t.Errorf("it outlasts its token: %v", read.ExpiresAt)
		}
		got(f.RotateToken(ctx, team, name, hash(name+"-3"), 0, end, testAct()))(t)
		over(last)
	}
}
