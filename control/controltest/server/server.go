// Package server runs other people's servers for tests.
package server

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// Start starts a tool of scripts/versions that serves HTTP at the port of the variable
// PORT, with more of an environment, and gives its URL once it listens. It ends with the
// test.
func Start(t *testing.T, path string, environment ...string) (url string) {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(free.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	cmd := exec.Command(path)
	cmd.Env = append(append(os.Environ(), "PORT="+port), environment...)
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s (scripts/setup test builds it): %v", path, err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait() // killed
	})
	for range 500 {
		if conn, err := net.Dial("tcp", free.Addr().String()); err == nil {
			conn.Close()
			return "http://localhost:" + port
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s does not listen", path)
	return ""
}

// Output is what a program wrote. Several goroutines may use it at once.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
