package e2e_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/controltest"
	"sallyport/control/store"
	"sallyport/e2e"
	"sallyport/sidecar/identity"
)

// TestRenewal: a sidecar renews its certificate, and goes on by the new one. The control
// plane's clock is behind, so that a certificate is due as soon as it is made.
func TestRenewal(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	plane := controltest.Start(t, -50*time.Minute)
	team := plane.NewTeam(t)
	team.Setup(t, token)
	id, joinToken := team.NewSandbox(t)
	file := filepath.Join(w.Dir, "join-token")
	if err := os.WriteFile(file, []byte(joinToken), 0o600); err != nil {
		t.Fatal(err)
	}
	w.StartOutside(w.Program("sallyport-sidecar"), "init", "--control", plane.SidecarURL, "--join-token-file", file, "--", "cat")
	w.Eventually("the certificate is renewed", func() bool {
		known, err := plane.Store.Identity(t.Context(), team.ID, id)
		return err == nil && known.Generation == 2
	})
	w.Eventually("the sidecar is connected", func() bool {
		known, err := plane.Store.Sandbox(t.Context(), team.ID, id)
		return err == nil && known.Connected
	})
	var rotation control.Rotation
	team.Must(t, "POST", "vaults/v/credentials/stripe/rotate?wait=20s", map[string]any{"secret": "sk_live_of_the_renewed"}, &rotation)
	if rotation.Acknowledged != 1 {
		t.Errorf("the sidecar did not hear of a rotation: %+v", rotation)
	}
	if known, err := plane.Store.Identity(t.Context(), team.ID, id); err != nil || known.State != control.SandboxEnrolled || known.Generation != 2 {
		t.Errorf("the sandbox is %+v, %v", known, err)
	}
}

// TestLostRenewal: the answer to a renewal is lost, the control plane is away for an
// hour, and the worker is another when it is back. It is no copy of the identity for that.
func TestLostRenewal(t *testing.T) {
	plane := controltest.Start(t, -50*time.Minute)
	team := plane.NewTeam(t)
	team.Setup(t, token)
	id, joinToken := team.NewSandbox(t)
	line := newLine(t, strings.TrimPrefix(plane.SidecarURL, "https://"))
	worker, err := identity.Enroll(t.Context(), line.url(), []byte(joinToken), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer worker.Close()
	worker.Client().Report(t.Context(), connect.NewRequest(&api.ReportRequest{})) // opens the connection
	var state identity.State
	group, ctx := errgroup.WithContext(t.Context())
	ctx, kill := context.WithCancel(ctx)
	defer kill()
	group.Go(func() error {
		return worker.Run(ctx, func() (err error) {
			line.mute()
			state, err = worker.Marshal()
			return err
		})
	})
	current := func() store.Identity {
		t.Helper()
		known, err := plane.Store.Identity(t.Context(), team.ID, id)
		if err != nil {
			t.Fatal(err)
		}
		return known
	}
	for current().Generation != 2 {
		time.Sleep(10 * time.Millisecond)
	}
	line.cut()
	kill()
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), plane.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `update sandboxes set renewed_at = renewed_at - interval '1 hour' where id = $1`, id); err != nil {
		t.Fatal(err)
	}
	line.mend()
	next, err := identity.Restore(line.url(), state)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	renewed := false
	err = next.Run(ctx, func() error { // once: what was kept is asked for again
		renewed = true
		stop()
		return nil
	})
	if err != nil || !renewed {
		t.Errorf("the next worker: %v", err)
	}
	if known := current(); known.State != control.SandboxEnrolled || known.Generation != 2 {
		t.Errorf("the sandbox is %s, generation %d", known.State, known.Generation)
	}
}

// line is what connects to a server. Muted, it passes on nothing that the server says.
type line struct {
	listener net.Listener
	mu       sync.Mutex
	muted    bool
	broken   bool
	conns    []net.Conn
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{listener: listener}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil || !l.add(client, server) {
				client.Close()
				continue
			}
			group.Go(func() { io.Copy(server, client); server.Close() })
			group.Go(func() { l.answer(client, server); client.Close() })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		l.cut()
		group.Wait()
	})
	return l
}

func (l *line) url() string { return "https://" + l.listener.Addr().String() }

func (l *line) add(client, server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		server.Close()
		return false
	}
	l.conns = append(l.conns, client, server)
	return true
}

func (l *line) answer(client, server net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := server.Read(buffer)
		l.mu.Lock()
		muted := l.muted
		l.mu.Unlock()
		if err != nil {
			return
		}
		if !muted {
			client.Write(buffer[:n])
		}
	}
}

func (l *line) mute() { l.set(true, false) }
func (l *line) mend() { l.set(false, false) }

// cut ends the connections, and lets none through until mend.
func (l *line) cut() {
	l.set(true, true)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

func (l *line) set(muted, broken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.muted, l.broken = muted, broken
}
