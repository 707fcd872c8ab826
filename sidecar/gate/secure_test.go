package gate_test

import (
	"crypto/tls"
	"testing"
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
