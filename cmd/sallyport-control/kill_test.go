package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/control/api"
	"sallyport/control/store"
	"sallyport/sidecar/identity"
)

var kills = flag.Int("kills", 3, "how often replicas are killed under load, and three times as often as the database")

// TestReplicasKilled kills one replica after another, at any moment, under sidecars that
// join, fetch, report and are revoked. No token is used twice, nothing is handed out that
// is not recorded, what was acknowledged is there, and nobody who has material waits.
func TestReplicasKilled(t *testing.T) {
	r := newReplicas(t)
	l := newLoad(t, r)
	var gaps []time.Duration
	for n := range *kills {
		time.Sleep(rand.N(200 * time.Millisecond))
		i := rand.IntN(2)
		began := time.Now()
		r.running[i].end(t, syscall.SIGKILL)
		r.start(t, i)
		gaps = append(gaps, time.Since(began))
		l.inUse(t)
		if n%10 == 0 {
			l.goesOn(t)
		}
	}
	l.end(t)
	t.Logf("%d kills, each replica was ready again after %v at the median; %s", len(gaps), middle(gaps), l)
}

// TestDatabaseKilled kills Postgres under the same load. What is held is used all the
// while, and both replicas go on without a restart.
func TestDatabaseKilled(t *testing.T) {
	r := newReplicas(t)
	l := newLoad(t, r)
	var gaps []time.Duration
	for range (*kills + 2) / 3 {
		time.Sleep(rand.N(200 * time.Millisecond))
		pid := r.postmaster(t)
		began := time.Now()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		l.inUse(t)
		wait(t, "new database", func() bool { now := r.postmaster(t); return now != 0 && now != pid })
		for _, p := range r.running {
			wait(t, "replica that is ready", func() bool { return p.status() == http.StatusOK })
		}
		gaps = append(gaps, time.Since(began))
		l.inUse(t)
		l.goesOn(t)
	}
	for _, p := range r.running {
		select {
		case <-p.exited:
			t.Errorf("a replica ended: %s", p.stderr)
		default:
		}
	}
	l.end(t)
	t.Logf("%d kills, both replicas were ready again after %v at the median; %s", len(gaps), middle(gaps), l)
}

func middle(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[len(times)/2].Round(time.Millisecond)
}

// postmaster is the first process of the database, 0 while there is none.
func (r *replicas) postmaster(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, "postgres", "data", "postmaster.pid"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, _ := strconv.Atoi(line) // it may be being written
	return pid
}

// status is that of /readyz, 0 when nobody answers.
func (p *program) status() int {
	response, err := http.Get(p.admin + "/readyz")
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

// load is what many sidecars do.
type load struct {
	r       *replicas
	token   string
	history *history
	held    []*sandbox // they use their material all the while
	stop    func()

	mu           sync.Mutex
	leases       []string          // that were handed out
	acknowledged map[string]uint64 // events by sandbox
	lives        int               // sandboxes that have come, done all that they do, and gone
}

func newLoad(t *testing.T, r *replicas) *load {
	t.Helper()
	r.setUp(t)
	token, err := os.ReadFile(filepath.Join(r.dirs[0], "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	l := &load{r: r, token: strings.TrimSpace(string(token)), history: &history{began: time.Now()}, acknowledged: map[string]uint64{}}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	l.stop = sync.OnceFunc(func() { cancel(); group.Wait() })
	t.Cleanup(l.stop)
	for range 3 {
		s := r.join(t)
		l.held = append(l.held, s)
		group.Go(func() { s.use(ctx, t) })
	}
	for range 8 {
		group.Go(func() {
			for ctx.Err() == nil {
				l.live(ctx)
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	l.goesOn(t)
	return l
}

// goesOn waits until a sandbox has come and gone.
func (l *load) goesOn(t *testing.T) {
	t.Helper()
	lives := l.count()
	wait(t, "sandbox that comes and goes", func() bool { return l.count() > lives })
}

// inUse waits until each sandbox that holds material has used it.
func (l *load) inUse(t *testing.T) {
	t.Helper()
	for _, s := range l.held {
		served := s.served.Load()
		wait(t, "use of material", func() bool { return s.served.Load() > served })
	}
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lives
}

// live is the life of one sandbox, whose join token some have.
func (l *load) live(ctx context.Context) {
	var made struct {
		Sandbox   struct{ ID string } `json:"sandbox"`
		JoinToken string              `json:"join_token"`
	}
	if status, body := l.ask(ctx, "POST", "agents/a/sandboxes"); status != http.StatusCreated || json.Unmarshal(body, &made) != nil {
		return
	}
	id, racers := made.Sandbox.ID, max(1, rand.IntN(4))
	winners := make(chan *identity.Identity, racers)
	var racing sync.WaitGroup
	for range racers {
		racing.Go(func() { l.join(ctx, id, made.JoinToken, racers == 1, winners) })
	}
	racing.Wait()
	close(winners)
	for winner := range winners {
		acted := l.act(ctx, id, winner)
		l.history.record(call{sandbox: id, kind: revoke}, func() answer {
			if status, _ := l.ask(ctx, "DELETE", "sandboxes/"+id); status/100 != 2 {
				return unknown
			}
			return done
		})
		l.fetch(ctx, id, winner, 1)
		winner.Close()
		if acted {
			l.mu.Lock()
			l.lives++
			l.mu.Unlock()
		}
	}
}

// ask asks the admin API of either replica; the status is 0 when there was no answer.
func (l *load) ask(ctx context.Context, method, path string) (status int, body []byte) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+l.r.admin[rand.IntN(2)]+"/v1/teams/default/"+path, nil)
	if err != nil {
		return 0, nil
	}
	request.Header.Set("Authorization", "Bearer "+l.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil
	}
	defer response.Body.Close()
	if body, err = io.ReadAll(response.Body); err != nil {
		return 0, nil
	}
	return response.StatusCode, body
}

func (l *load) join(ctx context.Context, id, token string, alone bool, winners chan<- *identity.Identity) {
	first := rand.IntN(2)
	urls := "https://" + l.r.sidecar[first] + ",https://" + l.r.sidecar[1-first]
	l.history.record(call{id, enrol, alone}, func() answer {
		i, err := identity.Enroll(ctx, urls, []byte(token), "test")
		switch {
		case err == nil:
			i.Log = slog.New(slog.DiscardHandler)
			winners <- i
			return done
		case errors.Is(err, identity.ErrJoinToken):
			return denied
		}
		return unknown
	})
}

// act opens a stream, fetches material and reports its use. It is false when any of
// that failed.
func (l *load) act(ctx context.Context, id string, i *identity.Identity) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	stream := i.Client().Watch(ctx)
	defer func() {
		_ = stream.CloseRequest()
		_ = stream.CloseResponse()
	}()
	if stream.Send(&api.WatchRequest{}) != nil {
		return false
	}
	bindings, err := stream.Receive()
	if err != nil || len(bindings.GetBindings()) == 0 {
		return false // it was locked, or its replica killed
	}
	lease := l.fetch(ctx, id, i, bindings.GetBindings()[0].GetVersion())
	for n := range uint64(3) {
		response, err := i.Client().Report(ctx, connect.NewRequest(&api.ReportRequest{Events: []*api.Event{{
			Sequence: n + 1, Time: timestamppb.Now(), RequestId: fmt.Sprint(id, "-", n), Host: "api.stripe.com", Port: 443, Method: "GET", Path: "/",
			Decision: "inject", LeaseId: lease,
		}}}))
		if err != nil {
			return false
		}
		l.mu.Lock()
		l.acknowledged[id] = response.Msg.GetAcknowledged()
		l.mu.Unlock()
	}
	return lease != ""
}

// fetch fetches and gives the lease. What was neither given nor denied did nothing.
func (l *load) fetch(ctx context.Context, id string, i *identity.Identity, version uint64) (lease string) {
	credential := l.held[0].credential.Load().(string)
	l.history.record(call{sandbox: id, kind: fetch}, func() answer {
		response, err := i.Client().Fetch(ctx, connect.NewRequest(&api.FetchRequest{CredentialId: credential, Version: version, Host: "api.stripe.com"}))
		switch {
		case err == nil:
			lease = response.Msg.GetLeaseId()
			l.mu.Lock()
			l.leases = append(l.leases, lease)
			l.mu.Unlock()
			return done
		case connect.CodeOf(err) == connect.CodePermissionDenied:
			return denied
		}
		return unknown
	})
	return lease
}

// end stops the load and checks what it was told against what is recorded.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.history.check(t)
	if l.history.count(enrol, done) == 0 || l.history.count(fetch, denied) == 0 || len(l.leases) == 0 || len(l.acknowledged) == 0 {
		t.Errorf("nothing is shown: %s", l)
	}
	for _, orphans := range []string{
		`select count(*) from leases l where not exists (select from audit_events e where e.kind = 'grant' and e.lease = l.id::text and e.sandbox = l.sandbox_id::text)`,
		`select count(*) from sandboxes s join join_tokens j on j.sandbox_id = s.id where s.state = 'enrolled' and j.used_at is null`,
	} {
		if n := l.sql(t, orphans)[0]; n != "0" {
			t.Errorf("%s: %s", orphans, n)
		}
	}
	granted := map[string]bool{}
	for _, lease := range l.sql(t, `select lease from audit_events where kind = 'grant'`) {
		granted[lease] = true
	}
	for _, lease := range l.leases {
		if !granted[lease] {
			t.Errorf("lease %s was handed out and is not recorded", lease)
		}
	}
	reported := map[string]string{}
	for _, row := range l.sql(t, `select sandbox, max(sequence), count(*) from audit_events where kind = 'request' group by sandbox`) {
		id, rest, _ := strings.Cut(row, "|")
		reported[id] = rest
	}
	for id, n := range l.acknowledged {
		if most, count, _ := strings.Cut(reported[id], "|"); most < fmt.Sprint(n) || most != count {
			t.Errorf("of sandbox %s %d events were acknowledged, and %q are recorded", id, n, reported[id])
		}
	}
	s, err := store.Open(t.Context(), l.r.database.URL(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	team, err := s.Team(t.Context(), "default")
	if err == nil {
		err = s.VerifyChain(t.Context(), team.ID)
	}
	if err != nil {
		t.Error(err)
	}
}

func (l *load) sql(t *testing.T, query string) []string {
	t.Helper()
	cmd := exec.Command("psql", l.r.database.URL(), "-v", "ON_ERROR_STOP=1", "-Atc", query)
	cmd.Dir = "/"
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", query, err, output)
	}
	return strings.Fields(string(output))
}

func (l *load) String() string {
	served := int64(0)
	for _, s := range l.held {
		served += s.served.Load()
	}
	events := uint64(0)
	for _, n := range l.acknowledged {
		events += n
	}
	h := l.history
	return fmt.Sprintf("%d uses of held material; %d joined, %d were refused, %d do not know; %d leases handed out, %d refused; %d events acknowledged",
		served, h.count(enrol, done), h.count(enrol, denied), h.count(enrol, unknown), len(l.leases), h.count(fetch, denied), events)
}
