package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sallyport/control/api"
	"sallyport/control/embedded"
	"sallyport/sidecar/identity"
	"sallyport/sidecar/material"
)

// replicas are two of a control plane, on one database.
type replicas struct {
	database *embedded.Cluster
	dir      string // the database's
	dirs     [2]string
	admin    [2]string // addresses
	sidecar  [2]string
	running  [2]*program
}

func newReplicas(t *testing.T) *replicas {
	t.Helper()
	r := &replicas{dir: laid(t)}
	var err error
	if r.database, err = embedded.Start(t.Context(), r.dir, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.database.Stop(context.Background()) })
	for i, name := range []string{"first", "second"} {
		r.dirs[i], r.admin[i], r.sidecar[i] = filepath.Join(t.TempDir(), name), freeAddress(t), freeAddress(t)
		r.start(t, i)
	}
	token, err := os.ReadFile(filepath.Join(r.dirs[0], "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dirs[1], "admin-token"), token, 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// start starts a replica, which has the same addresses each time.
func (r *replicas) start(t *testing.T, i int) {
	t.Helper()
	p := serve(t, r.dirs[i], "--database", r.database.URL(), "--kek", filepath.Join(r.dirs[0], "kek"),
		"--admin-listen", r.admin[i], "--sidecar-listen", r.sidecar[i])
	p.admin, p.sidecar = "http://"+r.admin[i], "https://"+r.sidecar[i]
	r.running[i] = p
}

// setUp makes a vault with a credential, and an agent that it is pinned to.
func (r *replicas) setUp(t *testing.T) {
	t.Helper()
	for _, step := range []struct{ method, path, body string }{
		{"POST", "vaults", `{"name":"v"}`},
		{"POST", "vaults/v/credentials", `{"name":"stripe","service":"stripe","secret":"sk_live_1_of_a_test"}`},
		{"POST", "agents", `{"name":"a"}`},
		{"PUT", "agents/a/pins/v", ``},
	} {
		if status, body := r.running[0].call(t, step.method, "/v1/teams/default/"+step.path, step.body); status/100 != 2 {
			t.Fatalf("%s: %d %s", step.path, status, body)
		}
	}
}

// join is a sandbox that knows both replicas.
func (r *replicas) join(t *testing.T) *sandbox {
	t.Helper()
	_, body := r.running[0].call(t, "POST", "/v1/teams/default/agents/a/sandboxes", "")
	var made struct {
		JoinToken string `json:"join_token"`
	}
	if err := json.Unmarshal([]byte(body), &made); err != nil {
		t.Fatal(err)
	}
	return newSandbox(t, "https://"+r.sidecar[0]+",https://"+r.sidecar[1], made.JoinToken)
}

// sandbox is a real sidecar's half of the sidecar API, under traffic.
type sandbox struct {
	*identity.Identity
	cache      *material.Cache
	credential atomic.Value // string: its id
	version    atomic.Uint64
	applied    chan struct{} // a word for each revision
	served     atomic.Int64
	fetched    atomic.Int64
}

func newSandbox(t *testing.T, control, token string) *sandbox {
	t.Helper()
	i, err := identity.Enroll(t.Context(), control, []byte(token), "test")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	s := &sandbox{Identity: i, cache: material.NewCache(i.Client(), i.SealKey(), log), applied: make(chan struct{}, 1000)}
	watcher := &material.Watcher{Client: i.Client(), Log: log, Apply: s.apply,
		Revoked: func() { t.Error("the sandbox was revoked") }, Expired: func() { t.Error("its bindings expired") }}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { watcher.Run(ctx) })
	group.Go(func() { s.cache.Run(ctx) })
	t.Cleanup(func() { cancel(); group.Wait(); i.Close() })
	<-s.applied
	return s
}

func (s *sandbox) apply(m *api.WatchResponse) error {
	versions := map[string]uint64{}
	for _, b := range m.GetBindings() {
		versions[b.GetCredentialId()] = b.GetVersion()
	}
	s.cache.Replace(versions, func() {
		for id, version := range versions {
			s.credential.Store(id)
			s.version.Store(version)
		}
	})
	select {
	case s.applied <- struct{}{}:
	default: // nobody has waited for a long time
	}
	return nil
}

// traffic uses the credential, from the cache and afresh, until stop; each failure fails the test.
func (s *sandbox) traffic(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { s.use(ctx, t) })
	group.Go(func() {
		for ctx.Err() == nil {
			version := s.version.Load()
			_, err := s.Client().Fetch(ctx, connect.NewRequest(&api.FetchRequest{CredentialId: s.credential.Load().(string), Version: version, Host: "api.stripe.com"}))
			if connect.CodeOf(err) == connect.CodeNotFound { // rotated, and we are about to hear of it
				for deadline := time.Now().Add(patience); s.version.Load() == version && ctx.Err() == nil && time.Now().Before(deadline); {
					time.Sleep(time.Millisecond)
				}
			}
			if err != nil && ctx.Err() == nil && s.version.Load() == version {
				t.Errorf("a fetch: %v", err)
				return
			}
			s.fetched.Add(1)
			time.Sleep(150 * time.Millisecond) // ten a second are allowed
		}
	})
	return func() { cancel(); group.Wait() }
}

// use uses the credential from the cache until ctx ends.
func (s *sandbox) use(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		lease, err := s.cache.Get(ctx, s.credential.Load().(string), s.version.Load(), "api.stripe.com")
		if err != nil && ctx.Err() == nil && err != material.ErrSuperseded { // which the proxy asks again for
			t.Errorf("a request of the sandbox: %v", err)
			return
		}
		if err == nil {
			lease.Release()
			s.served.Add(1)
		}
		time.Sleep(time.Millisecond)
	}
}

// One of two replicas ends, gracefully or killed, under a sidecar that knows both. No
// request fails, and the sidecar hears of the next rotation.
func TestReplicaEnds(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			r := newReplicas(t)
			r.setUp(t)
			first, second := r.running[0], r.running[1]
			s := r.join(t)
			stop := s.traffic(t)
			defer stop()
			wait(t, "traffic", func() bool { return s.served.Load() > 50 && s.fetched.Load() > 3 })
			first.end(t, signal)
			select {
			case <-s.applied:
			case <-time.After(patience):
				t.Fatal("the sidecar does not come back")
			}
			status, answer := second.call(t, "POST", "/v1/teams/default/vaults/v/credentials/stripe/rotate?wait=20s", `{"secret":"sk_live_2_of_a_test"}`)
			if status != 200 || !strings.Contains(answer, `"acknowledged":1`) {
				t.Errorf("rotate at the other: %d %s", status, answer)
			}
			served, fetched := s.served.Load(), s.fetched.Load()
			wait(t, "traffic with the new version", func() bool { return s.served.Load() > served+50 && s.fetched.Load() > fetched+2 })
			if code := first.ProcessState.ExitCode(); signal == syscall.SIGTERM && code != 0 {
				t.Errorf("exit code %d: %s", code, first.stderr)
			}
		})
	}
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if t.Failed() {
			t.FailNow()
		}
		if time.Now().After(deadline) {
			t.Fatal(fmt.Sprint("there is no ", what))
		}
	}
}
