package supervise

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const testToken = "sp_join_canary-7f3a.fingerprint"

func tokenFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(publicDir(t), "token")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadToken(t *testing.T) {
	path := tokenFile(t, testToken+"\n")
	token, err := ReadToken(path)
	if err != nil || string(token) != testToken {
		t.Fatalf("%d bytes, %v", len(token), err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
	shown, err := json.Marshal(token)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprintf("%v %s %x %#v %q", token, token, token, token, token), string(shown)} {
		if strings.Contains(text, "canary") || strings.Contains(text, "7370") {
			t.Errorf("shown as %s", text)
		}
	}
	token.Wipe()
	if strings.Trim(string(token), "\x00") != "" {
		t.Error("not wiped")
	}
}

func TestReadTokenRefuses(t *testing.T) {
	link := filepath.Join(publicDir(t), "link")
	if err := os.Symlink(tokenFile(t, testToken), link); err != nil {
		t.Fatal(err)
	}
	linked := tokenFile(t, testToken)
	if err := os.Link(linked, linked+"2"); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(publicDir(t), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"symbolic link": link, "hard link": linked, "missing": "/no/such/token", "directory": publicDir(t), "fifo": fifo,
		"empty": tokenFile(t, " \n"), "long": tokenFile(t, strings.Repeat("x", maxToken+1)), "lines": tokenFile(t, "a\nb\n"),
		"no descriptor": "/dev/fd/9999",
	} {
		token, err := ReadToken(path)
		if err == nil {
			t.Errorf("%s was read", name)
		}
		if strings.Contains(fmt.Sprint(err), "canary") || len(token) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInheritedFD(t *testing.T) {
	for path, want := range map[string]int{"/dev/fd/3": 3, "/proc/self/fd/12": 12, "/dev//fd/4": 4, "/dev/fd/x": -1, "/dev/fd/-1": -1, "/dev/fd": -1, "fd/3": -1, "/tmp/3": -1} {
		fd, ok := InheritedFD(path)
		if !ok {
			fd = -1
		}
		if fd != want {
			t.Errorf("%s is descriptor %d, want %d", path, fd, want)
		}
	}
}

// However it is handed over, the token reaches the worker and is nowhere else.
func TestTokenIsNowhere(t *testing.T) {
	handOver := map[string]func(t *testing.T) (string, []option){
		"file": func(t *testing.T) (string, []option) {
			path := tokenFile(t, testToken)
			if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			return path, nil
		},
		"pipe": func(t *testing.T) (string, []option) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			t.Cleanup(func() { r.Close() })
			if _, err := w.WriteString(testToken); err != nil {
				t.Fatal(err)
			}
			return "/dev/fd/3", []option{withFile(r)}
		},
		"memfd": func(t *testing.T) (string, []option) {
			fd, err := unix.MemfdCreate("token", unix.MFD_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			f := os.NewFile(uintptr(fd), "token")
			t.Cleanup(func() { f.Close() })
			if _, err := f.WriteString(testToken + "\n"); err != nil {
				t.Fatal(err)
			}
			return "/proc/self/fd/3", []option{withFile(f)}
		},
	}
	for name, hand := range handOver {
		t.Run(name, func(t *testing.T) {
			eachUser(t, func(t *testing.T, options ...option) {
				path, more := hand(t)
				options = append(options, more...)
				if len(options) > 0 && name == "file" {
					if err := os.Chown(path, ordinaryUser, ordinaryUser); err != nil {
						t.Fatal(err)
					}
				}
				// What the agent searches for is put together there, or its own
				// command line would hold it.
				p := sh(ask + "ask x; printf %s-%s canary 7f3a > /run/word; PROBE search /run/word; echo searched; read x")
				p.TokenFile = path
				s := start(t, p, options...)
				s.stdout.await(t, "searched")
				if out := s.stdout.String(); !strings.Contains(out, fmt.Sprintf("token %q", testToken)) || strings.Contains(out, "found") {
					t.Errorf("got %s", out)
				}
				if _, err := os.Lstat(path); name == "file" && !os.IsNotExist(err) {
					t.Errorf("the token's file is still there: %v", err)
				}
				for _, pid := range append(descendants(t, s.cmd.Process.Pid), s.cmd.Process.Pid) {
					for _, file := range []string{"environ", "cmdline"} {
						b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
						if err == nil && strings.Contains(string(b), "canary-7f3a") {
							t.Errorf("the token is in the %s of process %d", file, pid)
						}
					}
				}
			})
		})
	}
}
