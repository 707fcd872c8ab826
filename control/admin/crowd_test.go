package admin_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/control"
	"sallyport/control/admin"
	"sallyport/control/controltest"
	"sallyport/control/store"
)

// crowd are calls that wait, and the statuses of those that do not.
type crowd struct {
	server   *admin.Server
	life     context.Context
	waiting  sync.WaitGroup
	statuses chan int
}

// newCrowd makes a Server of its own and those who call it until the test ends.
func newCrowd(t *testing.T, change func(*admin.Config)) *crowd {
	t.Helper()
	config := plane.Admin.Config
	if change != nil {
		change(&config)
	}
	s, err := admin.New(config)
	if err != nil {
		t.Fatal(err)
	}
	life, end := context.WithCancel(t.Context())
	c := &crowd{server: s, life: life, statuses: make(chan int, 1000)}
	t.Cleanup(func() { end(); c.waiting.Wait() })
	return c
}

// call makes a call that may wait for as long as the test.
func (c *crowd) call(token, method, path, body string) {
	c.waiting.Go(func() {
		w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(c.life, method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		c.server.ServeHTTP(w, r)
		if c.life.Err() == nil {
			c.statuses <- w.Code
		}
	})
}

// refused waits until n calls were refused, and fails for any other answer.
func (c *crowd) refused(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		select {
		case status := <-c.statuses:
			if status != http.StatusTooManyRequests {
				t.Fatalf("a call is answered %d", status)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%d of %d calls are refused, and the others wait", i, n)
		}
	}
}

// TestFollowersAreBounded: one token, by its sessions too, and one team have so many calls
// that wait for events; others' go on.
func TestFollowersAreBounded(t *testing.T) {
	c := newCrowd(t, nil)
	team, other := plane.NewTeam(t), plane.NewTeam(t)
	viewer := token(t, team, control.RoleViewer)
	var session struct{ Value string }
	plane.Do(t, viewer, "POST", "/v1/sessions/token", nil).Into(t, 201, &session)
	var others []string // made before anybody waits, since each is an event
	for range admin.FollowersOfTeam / admin.FollowersOfOne {
		others = append(others, token(t, team, control.RoleViewer))
	}
	neighbor := token(t, other, control.RoleViewer)
	const wait = "audit/follow?after=-1&wait=30"
	for i := range 3 * admin.FollowersOfOne {
		c.call([]string{viewer, session.Value}[i%2], "GET", team.Path(wait), "")
	}
	c.refused(t, 2*admin.FollowersOfOne)
	for _, more := range others {
		for range admin.FollowersOfOne {
			c.call(more, "GET", team.Path(wait), "")
		}
	}
	c.refused(t, admin.FollowersOfOne)
	c.call(viewer, "GET", other.Path(wait), "") // which is not there for it
	if status := <-c.statuses; status != 404 {
		t.Errorf("another team's: %d", status)
	}
	if r := serving(c.server)(neighbor, "GET", other.Path("audit/follow?after=0&wait=30"), ""); r.status != 200 {
		t.Errorf("another team: %d %s", r.status, r.body)
	}
	if r := serving(c.server)(viewer, "GET", team.Path("audit/follow?after=0"), ""); r.status != 200 {
		t.Errorf("without waiting: %d %s", r.status, r.body)
	}
}

// TestSessionsShareAPace: who begins sessions, with a token or as a person, calls no more often by that.
func TestSessionsShareAPace(t *testing.T) {
	config := plane.Admin.Config
	config.Calls = admin.Pace{Rate: 1e-9, Burst: 20}
	s, err := admin.New(config)
	if err != nil {
		t.Fatal(err)
	}
	team := plane.NewTeam(t)
	begun := token(t, team, control.RoleViewer)
	values := []string{begun}
	email := "pace-" + team.Name + "@example.com"
	var people []string
	for range 4 {
		var session struct{ Value string }
		plane.Do(t, begun, "POST", "/v1/sessions/token", nil).Into(t, 201, &session)
		values = append(values, session.Value)
		alice, _ := person(t, email, control.Grant{Team: team.Name, Role: control.RoleViewer})
		people = append(people, alice)
	}
	for who, values := range map[string][]string{"a token": values, "a person": people} {
		good := 0
		for i := range 60 {
			if serving(s)(values[i%len(values)], "GET", "/v1/info", "").status == 200 {
				good++
			}
		}
		if good != 20 {
			t.Errorf("%s: %d calls let through, by %d sessions", who, good, len(values))
		}
	}
}

// TestBeginningSessionsIsPaced: each is an event of the installation, and anybody who
// may read may begin one.
func TestBeginningSessionsIsPaced(t *testing.T) {
	c := newCrowd(t, nil)
	viewer := token(t, plane.NewTeam(t), control.RoleViewer)
	begun, refused := 0, 0
	for range 200 {
		switch r := serving(c.server)(viewer, "POST", "/v1/sessions/token", ""); r.status {
		case 201:
			begun++
		case 429:
			refused++
		default:
			t.Fatalf("%d %s", r.status, r.body)
		}
	}
	if refused < 100 || begun < 20 {
		t.Errorf("%d sessions begun, %d refused", begun, refused)
	}
}

// TestTrialsAndDiscoveriesOfATeam: one whose services never answer has a few calls out at once,
// and no other team waits for them.
func TestTrialsAndDiscoveriesOfATeam(t *testing.T) {
	entered := make(chan struct{}, 1000)
	c := newCrowd(t, func(config *admin.Config) {
		config.Test = func(ctx context.Context, _ store.Bound, _ control.Target, _ func() error) (control.Trial, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return control.Trial{}, ctx.Err()
		}
	})
	hang := plane.ServeLocalhost(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	slow, other := plane.NewTeam(t), plane.NewTeam(t)
	store := func(team *controltest.Team, name string) {
		team.Must(t, "POST", "vaults/v/credentials", map[string]any{"name": name, "hosts": []string{name + ".example.com"}, "auth": "token", "secret": "sk_canary-secret-0123456789"}, nil)
	}
	for _, team := range []*controltest.Team{slow, other} {
		team.Must(t, "POST", "vaults", map[string]any{"name": "v"}, nil)
	}
	store(other, "a")
	const many = 24
	for i := range many {
		store(slow, fmt.Sprint("c", i))
	}
	admins := token(t, slow, control.RoleAdmin)
	for i := range many {
		c.call(admins, "POST", slow.Path("vaults/v/credentials", fmt.Sprint("c", i), "test"), "{}")
	}
	c.refused(t, many-admin.OutwardOfTeam)
	for range admin.OutwardOfTeam {
		<-entered
	}
	for i := range many {
		c.call(admins, "POST", slow.Path("vaults/v/discover"), fmt.Sprintf(`{"name":"m%d","url":"%s/mcp","redirect_uri":"http://127.0.0.1:1/callback"}`, i, hang))
	}
	c.refused(t, many)
	c.call(token(t, other, control.RoleAdmin), "POST", other.Path("vaults/v/credentials/a/test"), "{}")
	select {
	case <-entered:
	case <-time.After(10 * time.Second):
		t.Error("another team waits")
	}
}
