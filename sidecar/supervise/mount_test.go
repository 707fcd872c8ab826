package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// A rootless agent works on its user's files, as the owner.
func TestRootlessAgentUsesTheUsersFiles(t *testing.T) {
	home := publicDir(t)
	for path, mode := range map[string]os.FileMode{home: 0o700, filepath.Join(home, "file"): 0o600} {
		if path != home {
			if err := os.WriteFile(path, []byte("mine\n"), mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chown(path, ordinaryUser, ordinaryUser); err != nil {
			t.Fatal(err)
		}
	}
	// The program is outside of home, which only its user may enter.
	out := mustRun(t, sh("pwd; cat file; echo changed > file; mkdir ~/made"), asUser(ordinaryUser), inDir(home), withEnv("HOME="+home))
	if out != home+"\nmine\n" {
		t.Errorf("got %q", out)
	}
	if b, err := os.ReadFile(filepath.Join(home, "file")); string(b) != "changed\n" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if info, err := os.Stat(filepath.Join(home, "made")); err != nil || !info.IsDir() {
		t.Errorf("the directory was not made: %v", err)
	}
}

func TestAgentsHome(t *testing.T) {
	t.Run("out of reach", func(t *testing.T) {
		home := publicDir(t)
		if err := os.WriteFile(filepath.Join(home, "secret"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(home, 0o700); err != nil {
			t.Fatal(err)
		}
		out := mustRun(t, sh("echo x > ~/new; ls ~"), withEnv("HOME="+home))
		if out != "new\n" {
			t.Errorf("its home has %q", out)
		}
		if _, err := os.Stat(filepath.Join(home, "new")); !os.IsNotExist(err) {
			t.Errorf("it was written through: %v", err)
		}
	})
	t.Run("readable", func(t *testing.T) {
		home := publicDir(t)
		if err := os.WriteFile(filepath.Join(home, "tool"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if out := mustRun(t, sh("ls ~"), withEnv("HOME="+home)); out != "tool\n" {
			t.Errorf("its home has %q", out)
		}
	})
}

func TestHiddenPaths(t *testing.T) {
	dir := publicDir(t)
	file, sub := filepath.Join(dir, "file"), filepath.Join(dir, "sub")
	if err := os.WriteFile(file, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(sub, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(sub, "file"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	eachUser(t, func(t *testing.T, options ...option) {
		p := sh(fmt.Sprintf("cat %s; ls -A %s; echo x > %s/new; true", file, sub, sub))
		p.Hide = []string{file, sub, filepath.Join(dir, "not there")}
		if out := mustRun(t, p, options...); out != "" {
			t.Errorf("it saw %q", out)
		}
	})
}

func TestResolver(t *testing.T) {
	const want = "nameserver 192.0.2.53\nnameserver 2001:db8::53\n"
	t.Run("file", func(t *testing.T) {
		if out := mustRun(t, sh("cat /etc/resolv.conf")); out != want {
			t.Errorf("got %q", out)
		}
	})
	// As systemd-resolved has it: a link into the /run that is replaced.
	t.Run("link", func(t *testing.T) {
		linked := wrapped("unshare", "--mount", "sh", "-c", `mkdir /run/sallyport-test-etc && mount -t tmpfs none /run/sallyport-test-etc &&
			cp -a /etc/. /run/sallyport-test-etc/ && ln -sf ../run/systemd/resolve/stub-resolv.conf /run/sallyport-test-etc/resolv.conf &&
			mount --move /run/sallyport-test-etc /etc && rmdir /run/sallyport-test-etc && exec "$@"`, "sh")
		if out := mustRun(t, sh("cat /etc/resolv.conf; readlink /etc/resolv.conf"), linked); out != want+"../run/systemd/resolve/stub-resolv.conf\n" {
			t.Errorf("got %q", out)
		}
	})
}

func TestDevices(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		out := mustRun(t, sh("echo gone > /dev/null; head -c4 /dev/urandom | wc -c; ls /dev/shm; find /dev -type b; ls /dev"), options...)
		if want := "4\nfd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n"; out != want {
			t.Errorf("got %q, want %q", out, want)
		}
	})
}

// A pipe that root made can be opened by its name, as scripts do.
func TestStandardDescriptorsCanBeOpened(t *testing.T) {
	status, stdout, stderr := run(t, sh("echo out > /dev/stdout; echo err > /dev/stderr"))
	if status != 0 || stdout != "out\n" || !strings.Contains(stderr, "err\n") {
		t.Errorf("exit status %d, %q, %q", status, stdout, stderr)
	}
}

func TestAgentUser(t *testing.T) {
	p := sh("id -u; id -g; cat /proc/self/status | grep CapEff")
	p.User = 1000
	want := "1000\n1000\nCapEff:\t0000000000000000\n"
	eachUser(t, func(t *testing.T, options ...option) {
		if out := mustRun(t, p, options...); out != want {
			t.Errorf("got %q, want %q", out, want)
		}
	})
}

// An agent that fills memory is stopped by a bound, or killed before the sidecar.
func TestMemoryIsBounded(t *testing.T) {
	machine := func(path string) uint64 {
		var fs unix.Statfs_t
		if err := unix.Statfs(path, &fs); err != nil {
			t.Fatal(err)
		}
		return fs.Blocks * uint64(fs.Bsize)
	}
	var memory unix.Sysinfo_t
	if err := unix.Sysinfo(&memory); err != nil {
		t.Fatal(err)
	}
	home := publicDir(t)
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	out := mustRun(t, sh("cat /proc/self/oom_score_adj; echo 0 2>/dev/null >/proc/self/oom_score_adj; cat /proc/self/oom_score_adj; stat -fc '%n %b %S' /dev/shm /run /tmp /var/tmp $HOME"), withEnv("HOME="+home))
	lowered := "0\n" // nobody without that capability can forbid it
	if ok, err := cap.GetProc().GetFlag(cap.Permitted, cap.SYS_RESOURCE); err == nil && ok {
		lowered = "500\n"
	}
	if !strings.HasPrefix(out, "500\n"+lowered) {
		t.Errorf("its score is not 500, or can be lowered: %q", out)
	}
	bounds := map[string]uint64{"/dev/shm": machine("/dev/shm"), "/run": memory.Totalram / 3, "/tmp": memory.Totalram / 3, "/var/tmp": memory.Totalram / 3, home: memory.Totalram / 3}
	for line := range strings.Lines(out) {
		var path string
		var blocks, size uint64
		if n, _ := fmt.Sscan(line, &path, &blocks, &size); n != 3 {
			continue
		}
		if bound := bounds[path]; blocks*size > bound {
			t.Errorf("%s may hold %d bytes, want %d at most", path, blocks*size, bound)
		}
		delete(bounds, path)
	}
	if len(bounds) > 0 {
		t.Errorf("%v were not looked at:\n%s", bounds, out)
	}
}
