package gate_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTLSIsEndedForTheNameAsked(t *testing.T) {
	for _, tc := range []struct {
		name   string
		config *tls.Config
		want   string
	}{
		{"TLS 1.3 with h2", &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, "h2"},
		{"TLS 1.2 alone", &tls.Config{MaxVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}, "http/1.1"},
		{"no ALPN", &tls.Config{}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, 443)
			flows := w.accept(t)
			tc.config.RootCAs, tc.config.ServerName = w.roots, "api.example.com"
			c := tls.Client(w.dial(t), tc.config)
			exchange(t, c)
			flow := <-flows
			if !flow.TLS || flow.SNI != "api.example.com" || flow.Protocol != tc.want || flow.Original.Port() != 443 {
				t.Errorf("flow %+v", flow)
			}
		})
	}
}

// dribble writes a byte at a time.
type dribble struct{ net.Conn }

func (d dribble) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func TestHelloADribbleAtATime(t *testing.T) {
	w := newWorld(t, 443)
	flows := w.accept(t)
	c := tls.Client(dribble{w.dial(t)}, &tls.Config{RootCAs: w.roots, ServerName: "api.example.com"})
	exchange(t, c)
	if flow := <-flows; flow.SNI != "api.example.com" {
		t.Errorf("flow %+v", flow)
	}
}

func TestPlainConnectionPassesUntouched(t *testing.T) {
	w := newWorld(t, 80)
	flows := w.accept(t)
	exchange(t, w.dial(t))
	if flow := <-flows; flow.TLS || flow.SNI != "" {
		t.Errorf("flow %+v", flow)
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name, code string
		port       uint16
		act        func(t *testing.T, w *world, c net.Conn) error
	}{
		{"another port", "port", 22, func(_ *testing.T, _ *world, c net.Conn) error {
			_, err := c.Read(make([]byte, 1))
			return err
		}},
		{"no SNI", "no_sni", 443, func(_ *testing.T, _ *world, c net.Conn) error {
			return tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake()
		}},
		{"not TLS after a TLS byte", "bad_hello", 443, func(t *testing.T, _ *world, c net.Conn) error {
			if _, err := c.Write([]byte("\x16\x03\x01\x00\x05hello, world")); err != nil {
				t.Fatal(err)
			}
			_, err := c.Read(make([]byte, 1))
			return err
		}},
		{"a client that does not trust us", "untrusted_ca", 443, func(_ *testing.T, _ *world, c net.Conn) error {
			return tls.Client(c, &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "api.example.com"}).Handshake()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, tc.port)
			if tc.port == 22 {
				w.set(func() { w.admit = refusePort })
			}
			c, err := net.Dial("tcp", w.address)
			if err == nil { // the reset may already meet the dial
				defer c.Close()
				err = tc.act(t, w, c)
			}
			if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the client saw %v, want an error at once", err)
			}
			if tc.port == 22 && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client saw %v, want a reset", err)
			}
			if refusal := <-w.refused; refusal.Code != tc.code {
				t.Errorf("refused as %+v, want %s", refusal, tc.code)
			}
		})
	}
}

// TestClientsThatTrustAnotherAuthority say so by one alert or another, or not at
// all.
func TestClientsThatTrustAnotherAuthority(t *testing.T) {
	for name, tt := range map[string]struct {
		alert byte // 0 for none
		code  string
	}{
		"OpenSSL, rustls: unknown_ca":      {48, "untrusted_ca"},
		"Go, GnuTLS, NSS: bad_certificate": {42, "untrusted_ca"},
		"Java: certificate_unknown":        {46, "untrusted_ca"},
		"unsupported_certificate":          {43, "untrusted_ca"},
		"a pin's access_denied":            {49, "untrusted_ca"},
		"it just leaves":                   {0, "untrusted_ca"},
		"handshake_failure":                {40, "tls_failed"},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+" in "+tls.VersionName(version), func(t *testing.T) {
				w := newWorld(t, 443)
				c := w.dial(t)
				c.Write(captureHelloOf(&tls.Config{ServerName: "api.example.com", MaxVersion: version}))
				if _, err := c.Read(make([]byte, 16<<10)); err != nil {
					t.Fatal(err)
				}
				// In clear, as OpenSSL does even where the answer has agreed on keys.
				if tt.alert != 0 {
					c.Write([]byte{21, 3, 3, 0, 2, 2, tt.alert})
				}
				c.Close()
				if refusal := <-w.refused; refusal.Code != tt.code {
					t.Errorf("refused as %+v, want %s", refusal, tt.code)
				}
			})
		}
	}
}

// forgetful gives its one session to whatever host.
type forgetful struct{ session *tls.ClientSessionState }

func (f *forgetful) Get(string) (*tls.ClientSessionState, bool)    { return f.session, f.session != nil }
func (f *forgetful) Put(_ string, session *tls.ClientSessionState) { f.session = session }

// TestSessionIsForOneHost: a client may resume its session with the host it made
// it with, and with no other.
func TestSessionIsForOneHost(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		w := newWorld(t, 443)
		sessions := &forgetful{}
		for i, step := range []struct {
			host    string
			resumed bool
		}{{"a.example.com", false}, {"a.example.com", true}, {"b.example.com", false}, {"b.example.com", true}, {"a.example.com", false}} {
			flows := w.accept(t)
			c := tls.Client(w.dial(t), &tls.Config{
				ServerName: step.host, MaxVersion: version, ClientSessionCache: sessions,
				InsecureSkipVerify: true, // Go's client would not offer the session itself
			})
			exchange(t, c)
			if got := c.ConnectionState().DidResume; got != step.resumed {
				t.Errorf("%s, step %d: resumed %v with %s", tls.VersionName(version), i, got, step.host)
			}
			if f := <-flows; f.Name != step.host {
				t.Errorf("flow %+v", f)
			}
			c.Close()
		}
	}
}

// TestWhatCannotBeRead is refused by a TLS alert that says why.
func TestWhatCannotBeRead(t *testing.T) {
	for code, tt := range map[string]struct {
		config *tls.Config
		alert  string
	}{
		"alpn_refused": {&tls.Config{NextProtos: []string{"acme-tls/1"}}, "no application protocol"},
		"old_tls":      {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "protocol version not supported"},
	} {
		w := newWorld(t, 443)
		tt.config.ServerName, tt.config.RootCAs = "api.example.com", w.roots
		err := tls.Client(w.dial(t), tt.config).Handshake()
		if err == nil || !strings.Contains(err.Error(), tt.alert) {
			t.Errorf("%s: the client saw %v", code, err)
		}
		if refusal := <-w.refused; refusal.Code != code {
			t.Errorf("refused as %+v, want %s", refusal, code)
		}
	}
}

func TestCloseEndsWaitingFlows(t *testing.T) {
	w := newWorld(t, 80)
	c := w.dial(t)
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Fatal(err)
	}
	w.gate.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a flow nobody took outlives the gate")
	}
	if _, err := w.gate.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
}

func TestFlowsAreCountedAndClosed(t *testing.T) {
	w := newWorld(t, 80)
	client := w.dial(t)
	if _, err := io.WriteString(client, "x"); err != nil {
		t.Fatal(err)
	}
	held, err := w.gate.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if n := w.gate.Open(); n != 1 {
		t.Errorf("%d flows are open, want 1", n)
	}
	w.gate.CloseFlows()
	if _, err := io.ReadAll(client); err != nil {
		t.Errorf("the client saw %v", err)
	}
	if n := w.gate.Open(); n != 0 {
		t.Errorf("%d flows are open after CloseFlows", n)
	}
}

// captureHello is a real client's first flight.
func captureHello() []byte {
	return captureHelloOf(&tls.Config{ServerName: "api.example.com"})
}

func captureHelloOf(config *tls.Config) []byte {
	client, server := net.Pipe()
	go tls.Client(client, config).Handshake()
	defer client.Close()
	hello := make([]byte, 16<<10)
	n, _ := server.Read(hello)
	return hello[:n]
}
