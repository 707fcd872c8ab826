package store

import (
	"fmt"
	"testing"
	"time"

	"sallyport/control"
)

// TestSessionsEnd: by not being used, by age, by being revoked, by newer ones of the
// same person.
func TestSessionsEnd(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	alice := control.Person{Issuer: "i", Subject: "1", Email: "alice@example.com", Grants: []control.Grant{{Team: "default", Role: control.RoleAdmin}}}
	bob := control.Person{Issuer: "i", Subject: "2", Email: "bob@example.com", Grants: []control.Grant{}}
	begin := func(p control.Person, value string) control.Session {
		t.Helper()
		return got(f.CreateSession(ctx, p, hash(value), time.Hour, 3*time.Hour, testAct()))(t)
	}
	over := func(value string) {
		t.Helper()
		_, err := f.SessionByHash(ctx, hash(value))
		wantCode(t, err, control.CodeUnauthorized, "log in again")
	}
	made := begin(alice, "a1")
	read := got(f.SessionByHash(ctx, hash("a1")))(t)
	if read.ID != made.ID || read.Email != alice.Email || len(read.Grants) != 1 || read.Grants[0] != alice.Grants[0] || !read.ExpiresAt.Equal(made.ExpiresAt) {
		t.Errorf("read %+v, made %+v", read, made)
	}
	over("guess")
	got(f.pool.Exec(ctx, `update sessions set last_used_at = now() - interval '59 minutes'`))(t)
	if read = got(f.SessionByHash(ctx, hash("a1")))(t); got(f.SessionByHash(ctx, hash("a1")))(t).LastUsedAt.Before(read.LastUsedAt.Add(time.Minute)) {
		t.Error("its use is not noted")
	}
	got(f.pool.Exec(ctx, `update sessions set last_used_at = now() - interval '61 minutes'`))(t)
	over("a1")
	begin(alice, "a2")
	got(f.pool.Exec(ctx, `update sessions set expires_at = now()`))(t)
	over("a2")

	first := begin(alice, "a3")
	theirs := begin(bob, "b1")
	wantCode(t, f.DeleteSession(ctx, Whose{Person: alice}, theirs.ID, testAct()), control.CodeNotFound)
	got(f.SessionByHash(ctx, hash("b1")))(t)
	sessions, _, err := f.Sessions(ctx, Whose{Person: alice}, Page{})
	if err != nil || len(sessions) != 1 || sessions[0].ID != first.ID {
		t.Errorf("alice has %+v, %v", sessions, err)
	}
	if sessions, _, err = f.Sessions(ctx, Whose{Everybody: true}, Page{}); err != nil || len(sessions) != 2 {
		t.Errorf("there are %+v, %v", sessions, err)
	}
	if err := f.DeleteSession(ctx, Whose{Person: alice}, first.ID, testAct()); err != nil {
		t.Fatal(err)
	}
	over("a3")
	if err := f.DeleteSession(ctx, Whose{Everybody: true}, theirs.ID, testAct()); err != nil {
		t.Fatal(err)
	}
	over("b1")

	for i := range maxSessions + 1 {
		begin(alice, fmt.Sprint("many", i))
	}
	over("many0")
	got(f.SessionByHash(ctx, hash("many1")))(t)
}
