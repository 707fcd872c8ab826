//go:build peers

// Package vault runs a real HashiCorp Vault for tests: its own program, with TLS,
// initialised and unsealed as an operator does it, its data in files.
package vault

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openbao/openbao/api/v2"

	"sallyport/control/controltest/server"
)

// patience bounds the wait for the program to do something.
const patience = 60 * time.Second

// Server is a Vault at one address, which may be stopped and started again.
type Server struct {
	Address string         // https://localhost:PORT
	CA      string         // the file of the authority that vouches for it
	Roots   *x509.CertPool // the same
	Root    string         // the root token

	dir    string
	unseal string
	client *api.Client // as root
	cmd    *exec.Cmd
	log    *server.Output
	exited chan struct{}
}

// Start starts a Vault with an authority of its own; it ends with the test.
func Start(t *testing.T) *Server {
	t.Helper()
	certificate, key := localhost(t)
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"cert.pem": certificate, "key.pem": key} {
		must(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
	return StartWith(t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem"))
}

// StartWith starts a Vault with the certificate and key of those files, for the name
// localhost, and the authority that vouches for them.
func StartWith(t *testing.T, certificate, key, authority string) *Server {
	t.Helper()
	s := &Server{CA: authority, Roots: x509.NewCertPool(), dir: t.TempDir()}
	roots, err := os.ReadFile(authority)
	must(t, err)
	s.Roots.AppendCertsFromPEM(roots)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := listener.Addr().String()
	must(t, listener.Close())
	s.Address = strings.Replace("https://"+address, "127.0.0.1", "localhost", 1)
	must(t, os.WriteFile(filepath.Join(s.dir, "vault.hcl"), fmt.Appendf(nil, `
disable_mlock = true
storage "file" { path = %q }
listener "tcp" {
  address       = %q
  tls_cert_file = %q
  tls_key_file  = %q
}
`, filepath.Join(s.dir, "data"), address, certificate, key), 0o600))
	config := api.NewConfig()
	config.DisableEnvironment = true
	config.Address = s.Address
	config.MaxRetries = 0
	must(t, config.ConfigureTLS(&api.TLSConfig{CACert: authority}))
	s.client, err = api.NewClient(config)
	must(t, err)

	s.Run(t)
	answer, err := s.client.Sys().Init(&api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	must(t, err)
	s.Root, s.unseal = answer.RootToken, answer.Keys[0]
	s.client.SetToken(s.Root)
	s.Unseal(t)
	return s
}

// Run starts the program, which is sealed then.
func (s *Server) Run(t *testing.T) {
	t.Helper()
	program, err := exec.LookPath("vault")
	if err != nil {
		t.Fatal("there is no vault on the PATH; scripts/peers builds it: ", err)
	}
	s.cmd, s.log, s.exited = exec.Command(program, "server", "-config="+filepath.Join(s.dir, "vault.hcl")), &server.Output{}, make(chan struct{})
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, s.cmd.Start())
	cmd, exited := s.cmd, s.exited
	go func() {
		cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() { stop(t, cmd, exited) })
	s.await(t, "answer", func(int) bool { return true })
}

// Stop ends the program; its data stays.
func (s *Server) Stop(t *testing.T) {
	t.Helper()
	stop(t, s.cmd, s.exited)
}

func stop(t *testing.T, cmd *exec.Cmd, exited chan struct{}) {
	t.Helper()
	cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-exited:
	case <-time.After(patience):
		cmd.Process.Kill()
		<-exited
		t.Error("Vault does not end")
	}
}

// Seal seals it, as an operator does who fears for its keys.
func (s *Server) Seal(t *testing.T) {
	t.Helper()
	must(t, s.client.Sys().Seal())
	s.await(t, "be sealed", func(status int) bool { return status == http.StatusServiceUnavailable })
}

// Unseal ends that.
func (s *Server) Unseal(t *testing.T) {
	t.Helper()
	_, err := s.client.Sys().Unseal(s.unseal)
	must(t, err)
	s.await(t, "be unsealed", func(status int) bool { return status == http.StatusOK })
}

// await waits for a status of /v1/sys/health.
func (s *Server) await(t *testing.T, what string, is func(status int) bool) {
	t.Helper()
	client := s.client.CloneConfig().HttpClient
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if answer, err := client.Get(s.Address + "/v1/sys/health"); err == nil {
			answer.Body.Close()
			if is(answer.StatusCode) {
				return
			}
		}
		select {
		case <-s.exited:
			t.Fatalf("Vault ended: %s", s.log)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("Vault does not come to %s: %s", what, s.log)
		}
	}
}

// KV makes a KV engine of a version at a path, and waits until it takes secrets.
func (s *Server) KV(t *testing.T, path, version string) {
	t.Helper()
	s.Do(t, "sys/mounts/"+path, map[string]any{"type": "kv", "options": map[string]any{"version": version}})
	if version == "1" {
		return
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		_, err := s.client.Logical().ReadWithContext(context.Background(), path+"/config")
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// Do writes to a path by the HTTP API, as root.
func (s *Server) Do(t *testing.T, path string, data map[string]any) *api.Secret {
	t.Helper()
	answer, err := s.client.Logical().WriteWithContext(context.Background(), path, data)
	must(t, err)
	return answer
}

// Get reads what is at a path, as root.
func (s *Server) Get(t *testing.T, path string) map[string]any {
	t.Helper()
	answer, err := s.client.Logical().ReadWithContext(context.Background(), path)
	must(t, err)
	return answer.Data
}

// List lists what is below a path, as root.
func (s *Server) List(t *testing.T, path string) (names []string) {
	t.Helper()
	answer, err := s.client.Logical().ListWithContext(context.Background(), path)
	must(t, err)
	for _, name := range answer.Data["keys"].([]any) {
		names = append(names, name.(string))
	}
	return names
}

// Delete deletes what is at a path, as root.
func (s *Server) Delete(t *testing.T, path string) {
	t.Helper()
	_, err := s.client.Logical().DeleteWithContext(context.Background(), path)
	must(t, err)
}

// Refuses gives the error of such a writing, which has to fail.
func (s *Server) Refuses(t *testing.T, path string, data map[string]any) error {
	t.Helper()
	_, err := s.client.Logical().WriteWithContext(context.Background(), path, data)
	if err == nil {
		t.Fatalf("Vault lets %s pass", path)
	}
	return err
}

// Token makes a token of a policy, which is made of lines as `path "kv/*" { … }`, with
// what else auth/token/create takes.
func (s *Server) Token(t *testing.T, policy string, more map[string]any) string {
	t.Helper()
	name := "p-" + rand.Text()
	s.Do(t, "sys/policies/acl/"+name, map[string]any{"policy": policy})
	data := map[string]any{"policies": []string{name}}
	for setting, value := range more {
		data[setting] = value
	}
	return s.Do(t, "auth/token/create", data).Auth.ClientToken
}

// Log is what the program wrote since it was started last.
func (s *Server) Log() string { return s.log.String() }

// localhost makes a certificate for that name, and its key.
func localhost(t *testing.T) (certificate, key *pem.Block) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	written, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return &pem.Block{Type: "CERTIFICATE", Bytes: der}, &pem.Block{Type: "PRIVATE KEY", Bytes: written}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
