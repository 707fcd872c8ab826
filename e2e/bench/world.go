package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// secret is what the sidecar injects until it is rotated.
const secret = "bench-key-0123456789abcdefghijklmnop"

// world is an origin and a control plane with the agents.
type world struct {
	options
	ctx    context.Context
	dir    string
	self   string
	origin string // IP address: HTTPS at 443, DNS at 53
	admin  string // URL
	api    string // URL of the sidecar API
	token  string // file
	stops  []func()
}

func newWorld(ctx context.Context, o options) (*world, error) {
	dir, err := os.MkdirTemp("", "sallyport-bench-")
	if err != nil {
		return nil, err
	}
	w := &world{ctx: ctx, options: o, dir: dir, stops: []func(){func() { os.RemoveAll(dir) }}}
	if err := w.begin(); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) begin() (err error) {
	// Postgres and the agent run as other users, who must get to their files.
	if err := os.Chmod(w.dir, 0o755); err != nil {
		return err
	}
	if w.bin, err = filepath.Abs(w.bin); err != nil {
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
	// An address of its own, so that its ports are free.
	w.origin = fmt.Sprintf("127.88.%d.%d", os.Getpid()>>8&0xff, os.Getpid()&0xff)
	if err := os.WriteFile(w.path("resolv.conf"), []byte("nameserver "+w.origin+"\n"), 0o644); err != nil {
		return err
	}
	origin, err := w.server(w.cores.Load, w.self, "origin", w.origin, w.path("cert.pem"), w.path("key.pem"))
	if err != nil {
		return err
	}
	if err := w.await(origin, func() error { return reachable(w.originAddress()) }); err != nil {
		return err
	}
	return w.control()
}

func (w *world) originAddress() string { return net.JoinHostPort(w.origin, "443") }

func (w *world) control() error {
	var addresses [3]string
	for i := range addresses {
		var err error
		if addresses[i], err = freeAddress(); err != nil {
			return err
		}
	}
	w.admin, w.api, w.token = "http://"+addresses[0], "https://"+addresses[1], w.path("data/admin-token")
	control, err := w.server(w.cores.Control, filepath.Join(w.bin, "sallyport-control"), "serve", "--data-dir", w.path("data"),
		"--admin-listen", addresses[0], "--sidecar-listen", addresses[1], "--metrics-listen", addresses[2])
	if err != nil {
		return err
	}
	if err := w.await(control, func() error {
		response, err := http.Get(w.admin + "/readyz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("the control plane is not ready: %s", response.Status)
		}
		return nil
	}); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"vault", "create", "bench"},
		{"credential", "add", "--vault", "bench", "--name", "key", "--host", "*." + keyedZone, "--inject", "bearer", "--secret-file", "-"},
		{"agent", "create", "bench"},
		{"agent", "pin", "bench", "bench"},
	} {
		if _, err := w.cli(secret, args...); err != nil {
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

// cli runs sallyport as the admin.
func (w *world) cli(stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(w.ctx, filepath.Join(w.bin, "sallyport"), append([]string{"--server", w.admin, "--token-file", w.token}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	output, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("sallyport %s: %w\n%s", strings.Join(args, " "), err, output)
	}
	return string(output), nil
}

// server starts a process that ends with the world.
func (w *world) server(core int, command ...string) (*process, error) {
	p, err := w.launch(core, command...)
	if err != nil {
		return nil, err
	}
	w.stops = append(w.stops, p.stop)
	return p, nil
}

// await waits until p is ready.
func (w *world) await(p *process, ready func() error) error {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := ready()
		if err == nil || w.ctx.Err() != nil {
			return w.ctx.Err()
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: %w\n%s", strings.Join(p.Args, " "), err, p.log)
		}
	}
}

func reachable(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// withNames makes a command resolve every name to the origin.
func (w *world) withNames(command []string) []string {
	return append([]string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, w.path("resolv.conf")}, command...)
}

// certify writes the origin's certificate, which is its own authority, and one that the
// other proxies sign with.
func (w *world) certify() error {
	zones := []string{"*." + keyedZone, "*." + openZone, "*." + throughZone}
	if err := w.issue("ca.pem", "key.pem", zones); err != nil {
		return err
	}
	text, err := os.ReadFile(w.path("ca.pem"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(w.path("cert.pem"), text, 0o644); err != nil {
		return err
	}
	return w.issue("peer-ca.pem", "peer-ca.key", nil)
}

func (w *world) issue(certificate, key string, names []string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: certificate}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: encoded}} {
		var text bytes.Buffer
		if err := pem.Encode(&text, block); err != nil {
			return err
		}
		if err := os.WriteFile(w.path(name), text.Bytes(), 0o644); err != nil {
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
