// Package embedded supervises a private Postgres cluster under a data
// directory, from the binaries that are installed.
//
// Postgres listens on a Unix socket only, inside its data directory, which is
// closed to every other user; when we are root it runs as a user of its own.
// Its directory reaches it as a descriptor, so the directories above may be
// closed to that user too.
package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	user     = "sallyport"
	database = "postgres"
	socket   = ".s.PGSQL.5432"
	// unfinishedPrefix begins the name of a cluster that initdb has not finished.
	unfinishedPrefix = "data.new"
	// maxSocketPath is the room for a path in sockaddr_un, unix(7), without its NUL.
	maxSocketPath = 107
	// inherited is the data directory as a child of ours sees it.
	inherited = "/proc/self/fd/3"
)

// Cluster is a running Postgres that only this process's user can reach.
type Cluster struct {
	bin    string // directory of initdb and postgres
	data   string // PGDATA
	owner  *syscall.Credential
	log    *slog.Logger
	lock   *os.File
	links  string // directory with a short name for data, if it needs one
	stop   context.CancelFunc
	hurry  context.CancelFunc
	done   chan struct{} // closed when supervise has ended
	access string        // directory of the socket, for clients
}

// Start makes the cluster under dataDir if there is none, ends what an earlier
// process left running of it, and starts it. ctx bounds the start alone. A
// Postgres that dies later is started again until Stop.
func Start(ctx context.Context, dataDir string, log *slog.Logger) (_ *Cluster, err error) {
	dir, err := filepath.Abs(filepath.Join(dataDir, "postgres"))
	if err != nil {
		return nil, fmt.Errorf("find the data directory: %w", err)
	}
	c := &Cluster{data: filepath.Join(dir, "data"), log: log, done: make(chan struct{})}
	if c.bin, err = findBinaries(c.data, "/usr/lib/postgresql"); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	if c.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.release()
		}
	}()
	if c.owner, err = ownerOf(c.data, osuser.Lookup); err != nil {
		return nil, err
	}
	if _, err := os.Stat(c.data); errors.Is(err, fs.ErrNotExist) {
		if err := c.initialise(ctx, dir); err != nil {
			return nil, err
		}
	}
	if err := endStrays(ctx, c.data, log); err != nil {
		return nil, err
	}
	if err := c.shorten(); err != nil {
		return nil, err
	}
	if err := c.begin(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// begin starts supervise and waits for the first start to succeed or fail.
func (c *Cluster) begin(ctx context.Context) error {
	stopped, stop := context.WithCancel(context.Background())
	hurried, hurry := context.WithCancel(context.Background())
	c.stop, c.hurry = stop, hurry
	first := make(chan error, 1)
	go c.supervise(stopped, hurried, first)
	select {
	case err := <-first:
		if err != nil {
			<-c.done
		}
		return err
	case <-ctx.Done():
		stop()
		hurry()
		<-c.done
		return fmt.Errorf("start postgres: %w", ctx.Err())
	}
}

// URL is what store.Open takes. libpq understands it too.
func (c *Cluster) URL() string {
	u := url.URL{Scheme: "postgres", User: url.User(user), Path: "/" + database, RawQuery: url.Values{"host": {c.access}}.Encode()}
	return u.String()
}

// Stop shuts Postgres down and waits for it. When ctx ends it no longer waits
// for a checkpoint; the next start recovers from the log.
func (c *Cluster) Stop(ctx context.Context) error {
	c.stop()
	select {
	case <-c.done:
	case <-ctx.Done():
		c.hurry()
		<-c.done
	}
	c.release()
	return nil
}

func (c *Cluster) release() {
	if c.links != "" {
		os.RemoveAll(c.links)
	}
	c.lock.Close()
}

// initialise makes the cluster beside its place and moves it there when it is
// whole, so that one cut short is never taken for a cluster.
func (c *Cluster) initialise(ctx context.Context, dir string) error {
	c.clearUnfinished(dir)
	// A name of its own: what an initdb whose parent was killed still writes
	// goes elsewhere.
	unfinished, err := os.MkdirTemp(dir, unfinishedPrefix) // mode 0700
	if err != nil {
		return fmt.Errorf("make the cluster's directory: %w", err)
	}
	if c.owner != nil {
		if err := os.Chown(unfinished, int(c.owner.Uid), int(c.owner.Gid)); err != nil {
			return fmt.Errorf("give the cluster's directory to its user: %w", err)
		}
	}
	cmd, err := c.command("initdb", unfinished, "--username="+user, "--auth-local=trust", "--auth-host=reject",
		"--encoding=UTF8", "--locale=C", "--data-checksums")
	if err != nil {
		return err
	}
	defer cmd.ExtraFiles[0].Close()
	if err := runUntil(ctx, cmd); err != nil {
		return err
	}
	if err := os.Rename(unfinished, c.data); err != nil {
		return fmt.Errorf("put the new cluster in place: %w", err)
	}
	return syncDir(dir)
}

// clearUnfinished removes what starts that were cut short have left. What can't
// be removed yet, since something still writes there, is left to the next start.
func (c *Cluster) clearUnfinished(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, unfinishedPrefix+"*")) // fails for no pattern of ours
	for _, path := range left {
		if err := os.RemoveAll(path); err != nil {
			c.log.Warn("an unfinished cluster remains", "path", path, "error", err)
		}
	}
}

// runUntil runs a short command on a thread that outlives it, and ends it with ctx.
func runUntil(ctx context.Context, cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	defer context.AfterFunc(ctx, func() { cmd.Process.Kill() })()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("run %s: %w\n%s", cmd.Path, err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// shorten gives the data directory a name that leaves room for the socket's.
func (c *Cluster) shorten() error {
	c.access = c.data
	if len(c.data)+1+len(socket) <= maxSocketPath {
		return nil
	}
	var err error
	if c.links, err = os.MkdirTemp("", "sallyport-"); err != nil {
		return fmt.Errorf("make a short name for the socket's directory: %w", err)
	}
	c.access = filepath.Join(c.links, "pg")
	if len(c.access)+1+len(socket) > maxSocketPath {
		return fmt.Errorf("the data directory's path and that of temporary files (%s) are both too long for a Unix socket: choose a shorter data directory", os.TempDir())
	}
	if err := os.Symlink(c.data, c.access); err != nil {
		return fmt.Errorf("make a short name for the socket's directory: %w", err)
	}
	return nil
}

// command prepares a program of Postgres on the cluster in dir. The caller
// closes its only extra file, and keeps the thread that starts it.
func (c *Cluster) command(name, dir string, args ...string) (*exec.Cmd, error) {
	f, err := os.OpenFile(dir, syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the cluster's directory: %w", err)
	}
	cmd := exec.Command(filepath.Join(c.bin, name), append([]string{"-D", inherited}, args...)...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + c.bin + ":/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: c.owner,
		Setpgid:    true,           // a terminal's interrupt is for us; we stop it in our own time
		Pdeathsig:  syscall.SIGINT, // fast shutdown
	}
	return cmd, nil
}

// supervise keeps Postgres running until stopped ends. It never leaves its
// thread, whose end would be the parent's death to Postgres.
func (c *Cluster) supervise(stopped, hurried context.Context, first chan<- error) {
	runtime.LockOSThread()
	defer close(c.done)
	for again := false; stopped.Err() == nil; again = true {
		err := c.serve(stopped, hurried, func() {
			if !again {
				first <- nil
			}
		})
		switch {
		case stopped.Err() != nil:
			return
		case !again && errors.Is(err, errNotReady):
			first <- err
			return
		}
		c.log.Error("postgres ended by itself and is started again", "error", err)
		select {
		case <-stopped.Done():
		case <-time.After(time.Second):
		}
		if err := endStrays(stopped, c.data, c.log); err != nil && stopped.Err() == nil {
			c.log.Error("processes of postgres remain", "error", err)
		}
	}
}

var errNotReady = errors.New("postgres does not start")

// serve runs Postgres once.
func (c *Cluster) serve(stopped, hurried context.Context, ready func()) error {
	cmd, err := c.command("postgres", c.data, "-c", "listen_addresses=", "-c", "port=5432",
		"-c", "unix_socket_directories=.", "-c", "unix_socket_permissions=0700",
		"-c", "log_min_messages=log", "-c", "logging_collector=off", "-c", "log_destination=stderr")
	if err != nil {
		return fmt.Errorf("%w: %w", errNotReady, err)
	}
	defer cmd.ExtraFiles[0].Close()
	out := &logWriter{log: c.log}
	cmd.Stderr = out
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: %w", errNotReady, err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()

	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for up := false; ; {
		select {
		case err := <-exited:
			if !up {
				return fmt.Errorf("%w (%v):\n%s", errNotReady, err, out.Tail())
			}
			return fmt.Errorf("postgres exited (%v):\n%s", err, out.Tail())
		case <-stopped.Done():
			return c.end(cmd.Process, hurried, exited)
		case <-tick.C:
			if pid, status := readPIDFile(c.data); pid == cmd.Process.Pid && status == "ready" {
				up = true
				tick.Stop()
				ready()
			}
		}
	}
}

// end shuts Postgres down: fast, at once when hurried, by force when it does not obey.
func (c *Cluster) end(p *os.Process, hurried context.Context, exited <-chan error) error {
	p.Signal(syscall.SIGINT)
	select {
	case err := <-exited:
		return err
	case <-hurried.Done():
	}
	p.Signal(syscall.SIGQUIT)
	defer time.AfterFunc(10*time.Second, func() { p.Kill() }).Stop()
	return <-exited
}

// logWriter passes Postgres' log on, line by line, and keeps its end.
type logWriter struct {
	log  *slog.Logger
	part []byte
	tail []string
}

// Write is called by one goroutine, that of exec.Cmd.
func (w *logWriter) Write(p []byte) (int, error) {
	w.part = append(w.part, p...)
	for {
		line, rest, found := bytes.Cut(w.part, []byte("\n"))
		if !found {
			return len(p), nil
		}
		w.line(string(line))
		w.part = append([]byte(nil), rest...)
	}
}

func (w *logWriter) line(s string) {
	level := slog.LevelDebug
	ordered := strings.HasSuffix(s, "due to administrator command") // each connection's end, when we stop it
	if (strings.Contains(s, "FATAL:") || strings.Contains(s, "PANIC:")) && !ordered {
		level = slog.LevelWarn
	}
	w.log.Log(context.Background(), level, "postgres", "line", s)
	if w.tail = append(w.tail, s); len(w.tail) > 8 {
		w.tail = w.tail[1:]
	}
}

// Tail is the last lines. Call it when the process has been waited for.
func (w *logWriter) Tail() string { return strings.Join(w.tail, "\n") }
