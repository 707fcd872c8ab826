package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sallyport/control/api"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func enrolled(t *testing.T, f *fakeControl, url string) *Identity {
	t.Helper()
	i, err := Enroll(t.Context(), url, f.ca.joinToken(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	return i
}

func TestEnroll(t *testing.T) {
	f, url := newFakeControl(t)
	token := f.ca.joinToken()
	want := strings.TrimSpace(string(token))
	i, err := Enroll(t.Context(), url, token, "v1")
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if i.Team() != "default" || i.Agent() != "billing" || i.Sandbox() != "s1" {
		t.Errorf("enrolled as %s/%s/%s", i.Team(), i.Agent(), i.Sandbox())
	}
	if len(bytes.Trim(token, "\x00")) > 0 {
		t.Errorf("the join token was not wiped")
	}
	request := f.enrolled[0]
	if request.JoinToken != want || request.Version != "v1" {
		t.Errorf("sent token %q, version %q", request.JoinToken, request.Version)
	}
	if err := api.CheckSealKey(request.SealKey); err != nil {
		t.Error(err)
	}
	sealed := must(api.SealMaterial(request.SealKey, "c", 1, api.Material{Token: []byte("x")}))
	if _, err := api.OpenMaterial(i.SealKey(), "c", 1, sealed); err != nil {
		t.Errorf("SealKey does not open what was sealed to the key sent: %v", err)
	}
	csr := must(x509.ParseCertificateRequest(request.Csr))
	if err := csr.CheckSignature(); err != nil {
		t.Error(err)
	}
	if !i.key.PublicKey.Equal(f.clients[0].PublicKey) || !i.key.PublicKey.Equal(csr.PublicKey) {
		t.Error("the client's certificate does not prove possession of the request's key")
	}

	i.Client().Report(t.Context(), connect.NewRequest(&api.ReportRequest{}))
	if got := f.clients[1]; len(got.URIs) != 1 || got.URIs[0].String() != sandboxURI {
		t.Errorf("after enrolment the client shows a certificate for %v", got.URIs)
	}
}

// Whoever answers in the control plane's place must not be told the token.
func TestEnrollTellsNoImpostor(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	mixed := other.serverCertificate(controlID, time.Hour)
	mixed.Certificate = append(mixed.Certificate, ca.cert.Raw)
	for name, c := range map[string]struct {
		cert tls.Certificate
		hint string
	}{
		"another CA":                   {other.serverCertificate(controlID, time.Hour), "not the one the join token names"},
		"another CA, our root at hand": {mixed, "unknown authority"},
		"a sandbox of ours":            {ca.serverCertificate(sandboxURI, time.Hour), "calls itself " + sandboxURI},
		"no identity":                  {ca.serverCertificate("", time.Hour), "no URI SAN"},
		"another trust domain":         {ca.serverCertificate("spiffe://other/control", time.Hour), "bundle"},
		"expired":                      {ca.serverCertificate(controlID, -time.Second), "clock"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeControl{ca: ca}
			url := f.serve(t, listen(t), c.cert)
			_, err := Enroll(t.Context(), url, ca.joinToken(), "v1")
			if !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), c.hint) {
				t.Errorf("error %v, want ErrUntrusted that speaks of %q", err, c.hint)
			}
			if _, n := f.requests(); n != 0 {
				t.Error("the request, and with it the token, was sent")
			}
		})
	}
}

func TestEnrollRefusal(t *testing.T) {
	f, url := newFakeControl(t)
	for name, c := range map[string]struct {
		url, token string
		fail       error
		hint       string
	}{
		"used token":       {url, "", connect.NewError(connect.CodeUnauthenticated, errors.New("no such token")), "sallyport sandbox create"},
		"denied token":     {url, "", connect.NewError(connect.CodePermissionDenied, errors.New("no such token")), "sallyport sandbox create"},
		"database away":    {url, "", connect.NewError(connect.CodeUnavailable, errors.New("database away")), "database away"},
		"not a token":      {url, "canary-token", nil, "sallyport sandbox create"},
		"token cut short":  {url, string(f.ca.joinToken()[:60]), nil, "cut short"},
		"no token":         {url, " ", nil, "sallyport sandbox create"},
		"not HTTPS":        {"http://127.0.0.1:1", "", nil, "want https://HOST:PORT"},
		"an address alone": {"127.0.0.1:8201", "", nil, "want https://HOST:PORT"},
	} {
		t.Run(name, func(t *testing.T) {
			f.fail = c.fail
			token := []byte(c.token)
			if c.token == "" {
				token = f.ca.joinToken()
			}
			before, _ := f.requests()
			_, err := Enroll(t.Context(), c.url, token, "v1")
			if err == nil || !strings.Contains(err.Error(), c.hint) || strings.Contains(err.Error(), "canary") {
				t.Errorf("error %v, want one that speaks of %q", err, c.hint)
			}
			if len(bytes.Trim(token, "\x00")) > 0 {
				t.Error("the join token was not wiped")
			}
			if after, _ := f.requests(); c.fail != nil && after != before+1 {
				t.Errorf("the token was sent %d times; a second use locks the sandbox", after-before)
			}
		})
	}
}

func TestEnrollWaitsForControlPlane(t *testing.T) {
	l := listen(t)
	address := l.Addr().String()
	l.Close()
	f := &fakeControl{ca: newAuthority(t)}
	result := make(chan error, 1)
	go func() {
		i, err := Enroll(t.Context(), "https://"+address, f.ca.joinToken(), "v1")
		if err == nil {
			i.Close()
		}
		result <- err
	}()
	f.serve(t, must(net.Listen("tcp", address)), f.ca.serverCertificate(controlID, time.Hour))
	if err := <-result; err != nil {
		t.Errorf("a control plane that starts a little later: %v", err)
	}
}

func TestEnrollGivesUp(t *testing.T) {
	l := listen(t)
	l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // for the first try, on a busy machine too
	defer cancel()
	_, err := Enroll(ctx, "https://"+l.Addr().String(), newAuthority(t).joinToken(), "v1")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error %v, want the deadline and why", err)
	}
}

// An answer that is lost must not make the client spend the token twice.
func TestEnrollNeverRepeatsWhatWasSent(t *testing.T) {
	f := &fakeControl{ca: newAuthority(t)}
	breaking := &breakingListener{Listener: listen(t)}
	f.fail = connect.NewError(connect.CodeInternal, errors.New("unreached"))
	url := f.serve(t, breaking, f.ca.serverCertificate(controlID, time.Hour))
	breaking.when = func() bool { n, _ := f.requests(); return n > 0 }
	if _, err := Enroll(t.Context(), url, f.ca.joinToken(), "v1"); err == nil {
		t.Fatal("enrolled over a broken connection")
	}
	if n, _ := f.requests(); n != 1 {
		t.Errorf("the token was sent %d times", n)
	}
}

// breakingListener's connections die at the first write after when is true.
type breakingListener struct {
	net.Listener
	when func() bool
}

func (l *breakingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &breakingConn{c, l}, err
}

type breakingConn struct {
	net.Conn
	l *breakingListener
}

func (c *breakingConn) Write(p []byte) (int, error) {
	if c.l.when() {
		c.Conn.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}
