package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"sallyport/control/controltest/migrated"
	"sallyport/e2e"
)

// TestScripts runs testdata/script against a real control plane on a real
// database. Every script works in a team of its own.
func TestScripts(t *testing.T) {
	server, data := startControl(t)
	token, err := os.ReadFile(filepath.Join(data, "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			if err := closeFiles(env.WorkDir); err != nil {
				return err
			}
			home := filepath.Join(env.WorkDir, "home")
			team := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
			env.Setenv("HOME", home)
			env.Setenv("GORACE", os.Getenv("GORACE"))
			env.Setenv("TEAM", team)
			env.Setenv("SALLYPORT_TEAM", team)
			env.Setenv("SALLYPORT_SERVER", server)
			env.Setenv("SALLYPORT_TOKEN", string(bytes.TrimSpace(token)))
			env.Setenv("ADMIN_TOKEN_FILE", filepath.Join(data, "admin-token"))
			return os.Mkdir(home, 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"json": isJSON,
		},
	})
}

// closeFiles makes a script's files private, as secrets should be.
func closeFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return os.Chmod(path, 0o600)
	})
}

// isJSON checks that a file is JSON: "json FILE object", or "json FILE array N"
// with its length.
func isJSON(ts *testscript.TestScript, neg bool, args []string) {
	var v any
	if err := json.Unmarshal([]byte(ts.ReadFile(args[0])), &v); err != nil {
		ts.Fatalf("%s is not JSON: %v", args[0], err)
	}
	switch kind := reflect.ValueOf(v).Kind(); {
	case neg:
		ts.Fatalf("json has no negation")
	case args[1] == "object" && kind == reflect.Map:
	case args[1] == "array" && kind == reflect.Slice && args[2] == strconv.Itoa(len(v.([]any))):
	default:
		ts.Fatalf("%s is not an %s: %v", args[0], strings.Join(args[1:], " of "), v)
	}
}

// startControl builds and starts a control plane on its embedded database. It
// gives its address and data directory, and stops it with the test.
func startControl(t *testing.T, flags ...string) (server, data string) {
	t.Helper()
	dir := t.TempDir()
	programs, err := e2e.ShippedPrograms()
	if err != nil {
		t.Fatal(err)
	}
	data = filepath.Join(dir, "data")
	if err := migrated.Lay(data); err != nil {
		t.Fatal(err)
	}
	admin := freeAddress(t)
	var log bytes.Buffer
	cmd := exec.Command(filepath.Join(programs, "sallyport-control"), append([]string{"serve", "--data-dir", data, "--admin-listen", admin,
		"--sidecar-listen", freeAddress(t), "--metrics-listen", freeAddress(t)}, flags...)...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
			t.Errorf("stop the control plane: %v", err)
			return
		}
		if err := <-ended; err != nil {
			t.Errorf("the control plane ended with %v", err)
		}
		if t.Failed() {
			t.Logf("its log:\n%s", &log)
		}
	})
	server = "http://" + admin
	for deadline := time.After(time.Minute); !ready(t, server); {
		select {
		case err := <-ended:
			t.Fatalf("the control plane ended: %v\n%s", err, &log)
		case <-deadline:
			t.Fatal("the control plane is not ready after a minute")
		case <-time.After(20 * time.Millisecond):
		}
	}
	return server, data
}

func ready(t *testing.T, server string) bool {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
