package gate_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"
)

// TestKeyExchange has clients that know both kinds, and each alone.
func TestKeyExchange(t *testing.T) {
	for name, tc := range map[string]struct {
		knows []tls.CurveID
		want  tls.CurveID
	}{
		"as usual":     {nil, tls.X25519},
		"hybrid only":  {[]tls.CurveID{tls.X25519MLKEM768}, tls.X25519MLKEM768},
		"P-256 only":   {[]tls.CurveID{tls.CurveP256}, tls.CurveP256},
		"P-521 only":   {[]tls.CurveID{tls.CurveP521}, tls.CurveP521},
		"hybrid first": {[]tls.CurveID{tls.X25519MLKEM768, tls.X25519}, tls.X25519},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 443)
			flows := w.accept(t)
			c := tls.Client(w.dial(t), &tls.Config{RootCAs: w.roots, ServerName: "api.example.com", CurvePreferences: tc.knows})
			exchange(t, c)
			<-flows
			if got := c.ConnectionState().CurveID; got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

// TestLastWord has a client that does not trust us say so as its sandbox ends.
func TestLastWord(t *testing.T) {
	w := newWorld(t, 443)
	c := tls.Client(&ending{Conn: w.dial(t), end: w.stop}, &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "api.example.com"})
	if err := c.Handshake(); err == nil {
		t.Fatal("the client trusts whom it should not")
	}
	c.Close()
	if r := <-w.refused; r.Code != "untrusted_ca" {
		t.Errorf("refused with %s: %s", r.Code, r.Hint)
	}
}

// ending has the gate end before the client says its second thing.
type ending struct {
	net.Conn
	end   func()
	wrote bool
}

func (e *ending) Write(p []byte) (int, error) {
	if e.wrote {
		e.end()
		time.Sleep(20 * time.Millisecond)
	}
	e.wrote = true
	return e.Conn.Write(p)
}
