package embedded

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be the parent that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("EMBEDDED_TEST_PARENT"); dir != "" {
		c, err := Start(context.Background(), dir, slog.New(slog.DiscardHandler))
		if err != nil {
			os.Stdout.WriteString("error " + err.Error() + "\n")
			os.Exit(1)
		}
		os.Stdout.WriteString(c.URL() + "\n")
		select {}
	}
	os.Exit(m.Run())
}

func start(t *testing.T, dir string) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop(context.Background()) })
	return c
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	out, err := tryQuery(url, sql)
	if err != nil {
		t.Fatalf("%s: %v\n%s", sql, err, out)
	}
	return out
}

func tryQuery(url, sql string) (string, error) {
	out, err := exec.Command("psql", "--no-psqlrc", "-qtA", "-c", sql, url).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// parent starts a cluster in a process of its own.
func parent(t *testing.T, dir string, as *syscall.Credential) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "EMBEDDED_TEST_PARENT="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "postgres://") {
		t.Fatalf("the parent said %q, %v", line, err)
	}
	return cmd, strings.TrimSpace(line)
}

func TestDataSurvivesRestart(t *testing.T) {
	dir := t.TempDir() // under directories that the postgres user can't enter
	first := start(t, dir)
	query(t, first.URL(), "create table kept (n int); insert into kept values (7)")
	if got := query(t, first.URL(), "show listen_addresses"); got != "" {
		t.Errorf("postgres listens on %q", got)
	}
	if got := query(t, first.URL(), "show fsync"); got != "on" {
		t.Errorf("fsync is %s", got)
	}
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := strays(first.data); err != nil || len(left) > 0 {
		t.Fatalf("after Stop: %d processes, %v", len(left), err)
	}
	second := start(t, dir)
	if got := query(t, second.URL(), "select n from kept"); got != "7" {
		t.Errorf("read %q", got)
	}
}

func TestClosedToOthers(t *testing.T) {
	c := start(t, t.TempDir())
	for _, path := range []string{filepath.Dir(c.data), c.data} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	if os.Geteuid() == 0 {
		st, err := os.Stat(c.data)
		if err != nil {
			t.Fatal(err)
		}
		if st.Sys().(*syscall.Stat_t).Uid == 0 {
			t.Error("postgres' data belongs to root")
		}
	}
	out, err := exec.Command("ss", "-Hltnp").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := readPIDFile(c.data)
	if strings.Contains(string(out), "pid="+strconv.Itoa(pid)+",") {
		t.Errorf("postgres listens on TCP:\n%s", out)
	}
}

func TestSecondIsRefused(t *testing.T) {
	dir := t.TempDir()
	c := start(t, dir)
	_, err := Start(t.Context(), dir, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "in use by another control plane") {
		t.Errorf("a second start says %v", err)
	}
	query(t, c.URL(), "select 1")
}

func TestParentKilled(t *testing.T) {
	dir := t.TempDir()
	cmd, url := parent(t, dir, nil)
	query(t, url, "create table kept (n int); insert into kept values (7)")
	data := filepath.Join(dir, "postgres", "data")
	if running, err := strays(data); err != nil || len(running) == 0 {
		t.Fatalf("%d processes run before the parent is killed, %v", len(running), err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	eventually(t, func() bool { // it dies with its parent
		left, err := strays(data)
		return err == nil && len(left) == 0
	})
	c := start(t, dir)
	if got := query(t, c.URL(), "select n from kept"); got != "7" {
		t.Errorf("read %q", got)
	}
}

func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("every other test shows it already")
		return
	}
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	_, url := parent(t, dir, &syscall.Credential{Uid: 65534, Gid: 65534})
	if got := query(t, url, "select 1"); got != "1" {
		t.Errorf("read %q", got)
	}
}

// orphan runs the cluster as if an earlier control plane had left it, one that
// its parent's death did not reach.
func orphan(t *testing.T, c *Cluster) *exec.Cmd {
	t.Helper()
	cmd, err := c.command("postgres", c.data, "-c", "listen_addresses=", "-c", "unix_socket_directories=.")
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.ExtraFiles[0].Close()
	cmd.SysProcAttr.Pdeathsig = 0
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	eventually(t, func() bool {
		pid, status := readPIDFile(c.data)
		return pid == cmd.Process.Pid && status == "ready"
	})
	return cmd
}

func TestOrphanIsEnded(t *testing.T) {
	dir := t.TempDir()
	c := start(t, dir)
	c.Stop(t.Context())
	old := orphan(t, c)
	query(t, c.URL(), "create table kept (n int); insert into kept values (7)")

	c = start(t, dir)
	if err := old.Wait(); err != nil {
		t.Errorf("the orphan was not shut down in order: %v", err)
	}
	if got := query(t, c.URL(), "select n from kept"); got != "7" {
		t.Errorf("read %q", got)
	}
}

// TestOrphanBackends kills the server of an orphan, so that its children are what is left.
func TestOrphanBackends(t *testing.T) {
	dir := t.TempDir()
	c := start(t, dir)
	c.Stop(t.Context())
	old := orphan(t, c)
	query(t, c.URL(), "create table kept (n int); insert into kept values (7)")
	busy := exec.Command("psql", "--no-psqlrc", "-c", "do $$begin loop end loop; end$$", c.URL())
	if err := busy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { busy.Process.Kill(); busy.Wait() })
	eventually(t, func() bool {
		return query(t, c.URL(), "select count(*) from pg_stat_activity where query like 'do %'") == "1"
	})
	old.Process.Kill()
	old.Wait()

	c = start(t, dir)
	if got := query(t, c.URL(), "select n from kept"); got != "7" {
		t.Errorf("read %q", got)
	}
}

func TestServerKilledIsStartedAgain(t *testing.T) {
	c := start(t, t.TempDir())
	query(t, c.URL(), "create table kept (n int); insert into kept values (7)")
	pid, _ := readPIDFile(c.data)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		got, err := tryQuery(c.URL(), "select n from kept")
		now, _ := readPIDFile(c.data)
		return err == nil && got == "7" && now != pid
	})
}

// TestStalePIDFile has the number of a live process that is not Postgres, as
// after a container's restart.
func TestStalePIDFile(t *testing.T) {
	dir := t.TempDir()
	c := start(t, dir)
	c.Stop(t.Context())
	stale := strconv.Itoa(os.Getpid()) + "\n" + c.data + "\n1\n5432\n.\n\n  1 1\nready\n"
	if err := os.WriteFile(filepath.Join(c.data, "postmaster.pid"), []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	query(t, start(t, dir).URL(), "select 1")
}

func TestUnfinishedInitIsDoneAgain(t *testing.T) {
	dir := t.TempDir()
	unfinished := filepath.Join(dir, "postgres", "data.new")
	if err := os.MkdirAll(unfinished, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(unfinished, "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	query(t, start(t, dir).URL(), "select 1")
	if _, err := os.Stat(unfinished); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the unfinished cluster is still there: %v", err)
	}
}

func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long path & more/", 8))
	c := start(t, dir)
	query(t, c.URL(), "select 1")
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(c.links); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the short name is still there: %v", err)
	}
}

func TestStartSaysWhatPostgresSaid(t *testing.T) {
	dir := t.TempDir()
	c := start(t, dir)
	c.Stop(t.Context())
	if err := os.WriteFile(filepath.Join(c.data, "postgresql.auto.conf"), []byte("no_such_setting = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the lock is free again after the first
		_, err := Start(t.Context(), dir, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
			t.Fatalf("got %v", err)
		}
	}
}

func TestNotInstalled(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := findBinaries(t.TempDir(), t.TempDir())
	if !errors.Is(err, ErrNotInstalled) {
		t.Errorf("got %v", err)
	}
}

func TestNewestVersion(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	root, data := t.TempDir(), t.TempDir()
	for _, v := range []string{"9", "15", "17"} {
		bin := filepath.Join(root, v, "bin")
		if err := os.MkdirAll(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"initdb", "postgres"} {
			if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err := findBinaries(data, root); err != nil || got != filepath.Join(root, "17", "bin") {
		t.Errorf("with no cluster yet: %s, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := findBinaries(data, root); err != nil || got != filepath.Join(root, "15", "bin") {
		t.Errorf("with a cluster of version 15: %s, %v", got, err)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for ctx := t.Context(); ; {
		if ok() {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal("it never came true")
		case <-time.After(10 * time.Millisecond):
		}
	}
}
