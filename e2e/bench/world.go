package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// world is an origin and a control plane with one agent.
type world struct {
	ctx      context.Context
	dir, bin string
	self     string
	origin   string // address
	admin    string // URL
	sidecar  string // URL of the sidecar API
	stops    []func()
}

func newWorld(ctx context.Context, bin string) (*world, error) {
	dir, err := os.MkdirTemp("", "sallyport-bench-")
	if err != nil {
		return nil, err
	}
	w := &world{ctx: ctx, dir: dir, stops: []func(){func() { os.RemoveAll(dir) }}}
	if err := w.begin(bin); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) begin(bin string) (err error) {
	// Postgres and the agent run as other users, who must get to their files.
	if err := os.Chmod(w.dir, 0o755); err != nil {
		return err
	}
	if w.bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	w.self = w.path("bench")
	if err := os.WriteFile(w.self, program, 0o755); err != nil {
		return err
	}
	if err := w.certify(); err != nil {
		return err
	}
	var addresses [4]string
	for i := range addresses {
		if addresses[i], err = freeAddress(); err != nil {
			return err
		}
	}
	w.origin, w.admin, w.sidecar = addresses[0], "http://"+addresses[1], "https://"+addresses[2]
	if _, err := w.launch(w.self, "origin", w.origin, w.path("cert.pem"), w.path("key.pem")); err != nil {
		return err
	}
	if _, err := w.launch(filepath.Join(w.bin, "sallyport-control"), "serve", "--data-dir", w.path("data"),
		"--admin-listen", addresses[1], "--sidecar-listen", addresses[2], "--metrics-listen", addresses[3]); err != nil {
		return err
	}
	if err := w.await(); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"vault", "create", "bench"},
		{"credential", "add", "--vault", "bench", "--name", "key", "--host", host, "--inject", "bearer", "--secret-file", "-"},
		{"agent", "create", "bench"},
		{"agent", "pin", "bench", "bench"},
	} {
		if _, err := w.cli(args...); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) close() {
	for i := len(w.stops) - 1; i >= 0; i-- {
		w.stops[i]()
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) cli(args ...string) (string, error) {
	cmd := exec.CommandContext(w.ctx, filepath.Join(w.bin, "sallyport"), append([]string{"--server", w.admin, "--token-file", w.path("data/admin-token")}, args...)...)
	cmd.Stdin = strings.NewReader("bench-key-0123456789abcdefghijklmnop")
	output, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("sallyport %s: %w\n%s", strings.Join(args, " "), err, output)
	}
	return string(output), nil
}

// process is one that is talked to by lines.
type process struct {
	*exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
	log   *bytes.Buffer
}

func (w *world) launch(name string, args ...string) (*process, error) {
	p := &process{Cmd: exec.Command(name, args...), log: new(bytes.Buffer)}
	p.Dir = w.dir // which a sandbox keeps in sight
	p.Stderr = p.log
	var err error
	if p.stdin, err = p.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.lines = bufio.NewScanner(stdout)
	if err := p.Start(); err != nil {
		return nil, err
	}
	w.stops = append(w.stops, func() {
		p.stdin.Close()
		p.Process.Signal(unix.SIGTERM)
		p.Wait()
	})
	return p, nil
}

// await waits until the control plane is ready, and so is the origin, which
// started before it.
func (w *world) await() error {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		response, err := http.Get(w.admin + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("the control plane is not ready: %w", err)
		}
	}
}

// way is one way from a client to the origin.
type way struct {
	name    string
	client  *process
	proxies func() []int // whose CPU counts
}

func (w *world) ways() ([]way, error) {
	direct, err := w.launch(w.self, "client", w.origin, w.path("ca.pem"))
	if err != nil {
		return nil, err
	}
	least, err := w.launch(w.self, "floor", w.origin, w.path("ca.pem"), w.path("floor-ca.pem"))
	if err != nil {
		return nil, err
	}
	command, err := w.sandboxed(w.self, "client", sandboxAddress, "/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		return nil, err
	}
	sandbox, err := w.launch(command[0], command[1:]...)
	if err != nil {
		return nil, err
	}
	return []way{
		{"direct", direct, func() []int { return nil }},
		{"floor", least, func() []int { return []int{least.Process.Pid} }},
		{"sidecar", sandbox, func() []int { return workersOf(sandbox.Process.Pid) }},
	}, nil
}

func (w *world) sandboxed(command ...string) ([]string, error) {
	token, err := w.cli("sandbox", "create", "--agent", "bench")
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(w.dir, "join-token-")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := file.WriteString(token); err != nil {
		return nil, err
	}
	return append([]string{filepath.Join(w.bin, "sallyport-sidecar"), "init", "--control", w.sidecar, "--join-token-file", file.Name(),
		"--upstream-ca", w.path("ca.pem"), "--connect-to", host + ":443:" + w.origin, "--"}, command...), nil
}

func (y way) measure(requests, connections int) (sample, error) {
	before := cpu(y.proxies())
	if _, err := fmt.Fprintln(y.client.stdin, requests, connections); err != nil {
		return sample{}, err
	}
	if !y.client.lines.Scan() {
		return sample{}, fmt.Errorf("the client ended: %s", y.client.log)
	}
	s, err := decode(y.client.lines.Text())
	if err != nil {
		return sample{}, err
	}
	s.cpu = (cpu(y.proxies()) - before) / time.Duration(requests)
	return s, nil
}

// workersOf gives the worker below a sidecar's init.
func workersOf(pid int) []int {
	var found []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		line, err := os.ReadFile(stat)
		if err != nil {
			continue // it ended meanwhile
		}
		fields := strings.Fields(string(line[bytes.LastIndexByte(line, ')')+1:]))
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		command, _ := os.ReadFile(filepath.Join(filepath.Dir(stat), "cmdline"))
		if parent, _ := strconv.Atoi(fields[1]); parent == pid && strings.Contains(string(command), "\x00worker\x00") {
			found = append(found, child)
		}
	}
	return found
}

// cpu is the time that all threads of the processes have run, which
// /proc/PID/task/TID/schedstat counts in nanoseconds.
func cpu(pids []int) time.Duration {
	var sum time.Duration
	for _, pid := range pids {
		stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, stat := range stats {
			text, err := os.ReadFile(stat)
			if err != nil {
				continue
			}
			var ns int64
			fmt.Sscan(string(text), &ns)
			sum += time.Duration(ns)
		}
	}
	return sum
}

// start measures how long a program takes to its first line.
func (w *world) start() (time.Duration, error) { return w.stamped([]string{w.self, "stamp"}) }

func (w *world) startInSandbox() (time.Duration, error) {
	command, err := w.sandboxed(w.self, "stamp")
	if err != nil {
		return 0, err
	}
	return w.stamped(command)
}

func (w *world) stamped(command []string) (time.Duration, error) {
	begun := monotonic()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(w.ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Stderr = w.dir, &stderr
	output, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, &stderr)
	}
	at, err := strconv.ParseInt(strings.TrimSpace(string(output)), 10, 64)
	return time.Duration(at - begun), err
}

// certify writes a certificate for the origin, which is its own authority.
func (w *world) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, text := range map[string][]byte{
		"cert.pem": certificate, "ca.pem": certificate, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	} {
		if err := os.WriteFile(w.path(name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
