package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Podman runs the images. Its storage is kept in .cache, so that a second test
// run builds little; its settings are the test's own. Podman's database remembers
// the directories of its storage, so these are the same for every world.
type Podman struct {
	w       *World
	environ []string
}

// Images builds both images, from programs without the race detector, as they
// are shipped. It needs root, since it is about rootful containers.
func (w *World) Images() *Podman {
	w.t.Helper()
	if os.Getuid() != 0 {
		w.t.Fatal("the image tests start rootful containers: run them as root")
	}
	storage, state := filepath.Join(root(w.t), ".cache", "containers"), filepath.Join(root(w.t), ".cache", "containers-run")
	w.lock(storage)
	p := &Podman{w: w, environ: append(os.Environ(),
		"CONTAINERS_CONF="+w.write("containers.conf", `
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "`+state+`/tmp"
`),
		"CONTAINERS_STORAGE_CONF="+w.write("storage.conf", fmt.Sprintf(`
[storage]
driver = %q
graphroot = %q
runroot = %q
[storage.options.overlay]
skip_mount_home = "true"
`, storageDriver(storage), storage, state)))}
	build := exec.Command("make", "--no-print-directory", "images")
	build.Dir, build.Env = root(w.t), p.environ
	if output, err := build.CombinedOutput(); err != nil {
		w.t.Fatalf("make images: %v\n%s", err, output)
	}
	return p
}

// storageDriver is overlay where the kernel can stack one on that directory.
func storageDriver(dir string) string {
	probe, err := os.MkdirTemp(dir, "probe-")
	if err != nil {
		return "vfs"
	}
	defer os.RemoveAll(probe)
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(probe, name), 0o700); err != nil {
			return "vfs"
		}
	}
	mount := exec.Command("unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", "lowerdir=lower,upperdir=upper,workdir=work", "merged")
	mount.Dir = probe
	if mount.Run() != nil {
		return "vfs"
	}
	return "overlay"
}

// lock keeps other test runs away from a directory until t ends.
func (w *World) lock(dir string) {
	w.t.Helper()
	w.must(os.MkdirAll(dir, 0o700))
	file, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	w.must(err)
	w.t.Cleanup(func() { file.Close() })
	w.must(unix.Flock(int(file.Fd()), unix.LOCK_EX))
}

func (w *World) write(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.Dir, name)
	w.must(os.WriteFile(path, []byte(text), 0o600))
	return path
}

// Try runs podman, which may fail.
func (p *Podman) Try(args ...string) Result {
	p.w.t.Helper()
	return p.w.finish(p.command(args...), "")
}

// Do runs podman and gives what it prints. It must succeed.
func (p *Podman) Do(args ...string) string {
	p.w.t.Helper()
	r := p.Try(args...)
	if r.Status != 0 {
		p.w.t.Fatalf("podman %s: exit status %d\n%s%s", strings.Join(args, " "), r.Status, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// Background starts a container that is stopped with the test.
func (p *Podman) Background(name string, args ...string) {
	p.w.t.Helper()
	p.w.t.Cleanup(func() {
		if p.w.t.Failed() {
			logs := p.Try("logs", name)
			p.w.t.Logf("container %s said:\n%s%s", name, logs.Stdout, logs.Stderr)
		}
		p.Try("rm", "--force", "--time", "20", "--volumes", name)
	})
	p.Do(append([]string{"run", "--pull", "never", "--detach", "--name", name}, args...)...)
}

func (p *Podman) command(args ...string) *exec.Cmd {
	cmd := exec.Command("podman", args...)
	cmd.Env = p.environ
	return cmd
}
