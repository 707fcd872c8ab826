package supervise

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The test binary plays every part: started again as "init", "worker", "stage"
// or, by a test as the agent's command, "probe".
func TestMain(m *testing.M) {
	part := ""
	if len(os.Args) > 1 {
		part = os.Args[1]
	}
	switch part {
	case "init":
		exit(playInit(os.Args[2]))
	case "worker":
		exit(0, Work(context.Background(), playWorker))
	case "stage":
		exit(Stage(context.Background()))
	case "probe":
		exit(0, probe(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

func exit(status int, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		status = max(status, 1)
	}
	syscall.Exit(status) // os.Exit would give the race detector a second to report
}

// part is what a test tells "init".
type part struct {
	Command   []string
	TokenFile string
	Hide      []string
	Share     []string
	User      uint32
	Behaviour string        // of the worker
	Start     time.Duration // Config.StartTimeout
	Drain     time.Duration // Config.DrainTimeout
}

func playInit(text string) (int, error) {
	var p part
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return 1, err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, Forwarded()...)
	if os.Geteuid() != 0 {
		return Rootless(os.Args, p.TokenFile, signals)
	}
	netns, listener, err := newTestNamespace()
	if err != nil {
		return 1, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return 1, err
	}
	if p.Behaviour == "attack as init" {
		go attackAsInit(os.Stderr)
	}
	return Run(context.Background(), Config{
		Netns:       netns,
		Nameservers: []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")},
		WorkerArgs:  []string{"test", "worker"},
		StageArgs:   []string{"test", "stage"},
		Files:       []*os.File{listener},
		Settings:    p.Behaviour,
		TokenFile:   p.TokenFile,
		Command:     p.Command,
		Environ:     os.Environ(),
		Dir:         dir,
		User:        p.User,
		Hide:        p.Hide,
		Share:       p.Share,
		Signals:     signals,
		Ready: func(ca []byte) error {
			fmt.Fprintln(os.Stderr, "ready")
			return nil
		},
		StartTimeout: p.Start,
		DrainTimeout: p.Drain,
		Log:          slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
}

// testPort is where the worker listens in every sandbox of the tests.
const testPort = 15001

// newTestNamespace makes a network namespace with nothing but lo, and a
// listener in it.
func newTestNamespace() (netns, listener *os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return
		}
		if netns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return
		}
		var lo netlink.Link
		if lo, err = netlink.LinkByName("lo"); err != nil {
			return
		}
		if err = netlink.LinkSetUp(lo); err != nil {
			return
		}
		var l net.Listener
		if l, err = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", testPort)); err != nil {
			return
		}
		listener, err = l.(*net.TCPListener).File()
	}()
	<-done
	return netns, listener, err
}

// testState is what the worker of the tests keeps.
type testState struct {
	CA     []byte
	Key    []byte // of the CA
	Token  string // which the first worker had
	Starts int
}

// playWorker answers every request with its testState, apart from the
// misbehaviour that it is told.
func playWorker(ctx context.Context, w *Worker) error {
	var behaviour string
	if err := json.Unmarshal(w.Settings, &behaviour); err != nil {
		return err
	}
	switch behaviour {
	case "fail":
		return errors.New("no such control plane")
	case "hang":
		<-ctx.Done()
		return nil
	}
	saved, err := w.State.Load()
	if err != nil {
		return err
	}
	var state testState
	if saved == nil {
		state.CA, state.Key = newCA()
		state.Token = string(w.Token)
	} else if err := json.Unmarshal(saved, &state); err != nil {
		return err
	}
	state.Starts++
	if saved, err = json.Marshal(state); err != nil {
		return err
	}
	if err := w.State.Save(saved); err != nil {
		return err
	}
	if behaviour == "other CA" && state.Starts > 1 {
		state.CA, state.Key = newCA()
	}
	listener, err := net.FileListener(w.Files[0])
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/attack" {
			attackAsWorker(rw)
			return
		}
		fmt.Fprintf(rw, "worker %d of %d, token %q\n", state.Starts, os.Getpid(), state.Token)
	})}
	if behaviour == "tls" {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{newLeaf(state)}}
		go server.ServeTLS(listener, "", "")
	} else {
		go server.Serve(listener)
	}
	if err := w.Ready(state.CA); err != nil {
		return err
	}
	<-ctx.Done()
	if behaviour == "never drain" {
		select {}
	}
	fmt.Fprintln(os.Stderr, "drained")
	return server.Close()
}

// attackAsWorker tries what a worker that was taken over would.
func attackAsWorker(out io.Writer) {
	fmt.Fprintln(out, "capabilities:", os.WriteFile("/etc/sallyport-attack", nil, 0o600))
	fmt.Fprintln(out, "read passwd:", openError("/etc/passwd"))
	fmt.Fprintln(out, "read elsewhere:", openError("/usr/bin/env"))
	fmt.Fprintln(out, "write elsewhere:", os.WriteFile("/tmp/sallyport-attack", nil, 0o600))
	fmt.Fprintln(out, "signal init:", syscall.Kill(os.Getppid(), 0))
	_, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
	fmt.Fprintln(out, "exec:", err)
	_, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	fmt.Fprintln(out, "unix socket:", err)
	fmt.Fprintln(out, "ptrace init:", syscall.PtraceAttach(os.Getppid()))
	_, err = os.ReadFile(fmt.Sprintf("/proc/%d/environ", os.Getppid()))
	fmt.Fprintln(out, "environ of init:", err)
	for _, file := range []string{"stat", "limits", "net/netstat"} { // for its metrics
		_, err = os.ReadFile("/proc/self/" + file)
		fmt.Fprintf(out, "own %s: %v\n", file, err)
	}
	fmt.Fprintln(out, "statfs:", unix.Statfs("/proc", new(unix.Statfs_t)))
	_, err = net.Dial("udp4", "127.0.0.1:53")
	fmt.Fprintln(out, "udp socket:", err)
	attackClone(out)
	attackMemory(out)
	attackKernel(out, kernelCalls())
	attackKernel(out, workerCalls())
}

func openError(path string) error {
	f, err := os.Open(path)
	if err == nil {
		f.Close()
	}
	return err
}

// newCA makes a certificate authority, and gives its key too.
func newCA() (certificate, key []byte) {
	private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Sallyport test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, private.Public(), private))
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), must(x509.MarshalECPrivateKey(private))
}

// newLeaf makes a certificate for where the worker of the tests listens.
func newLeaf(s testState) tls.Certificate {
	block, _ := pem.Decode(s.CA)
	ca := must(x509.ParseCertificate(block.Bytes))
	caKey := must(x509.ParseECPrivateKey(s.Key))
	private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, ca, private.Public(), caKey))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}

// must is for the processes that play a part, where a panic is told on stderr.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// program is a copy of the test binary where every user may run it.
func program(t *testing.T) string {
	t.Helper()
	dir := publicDir(t)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "test")
	if err := os.WriteFile(path, self, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// publicDir is a directory that every user may enter, also in a sandbox, which
// has a /tmp of its own.
func publicDir(t *testing.T) string {
	t.Helper()
	return publicDirIn(t, "/var/lib")
}

func publicDirIn(t *testing.T, parent string) string {
	t.Helper()
	dir, err := os.MkdirTemp(parent, "supervise")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
