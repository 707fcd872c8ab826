package agentapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"fmt"
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/crypto/cryptobyte"

	"sallyport/control"
	"sallyport/control/api"
	sidecar "sallyport/sidecar/identity"
)

// thiefOf shows the certificate of a real sidecar, by a copy of what its init keeps.
func thiefOf(t *testing.T, i *sidecar.Identity) *http.Transport {
	t.Helper()
	state, err := i.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	s := cryptobyte.String(state)
	var key, der cryptobyte.String
	var certificates uint8
	ok := s.Skip(1) && s.ReadUint16LengthPrefixed(&key)
	for range 5 {
		var skipped cryptobyte.String
		ok = ok && s.ReadUint16LengthPrefixed(&skipped)
	}
	if !ok || !s.Skip(16) || !s.ReadUint8(&certificates) || !s.ReadUint16LengthPrefixed(&der) {
		t.Fatal("the state is not what it was")
	}
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), key)
	if err != nil {
		t.Fatal(err)
	}
	var h2 http.Protocols
	h2.SetHTTP2(true)
	transport := &http.Transport{Protocols: &h2, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}},
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// TestStolenIdentityAhead: a thief who stays a few streams ahead of a real sidecar, so
// that each that the sidecar opens looks like one that was given up and comes late.
func TestStolenIdentityAhead(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	id, token := team.NewSandbox(t)
	real := enrolReal(t, token)
	open := func() error {
		w := real.Client().Watch(t.Context())
		defer w.CloseRequest()
		_ = w.Send(&api.WatchRequest{})
		_, err := w.Receive()
		return err
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	thief := api.NewSidecarServiceClient(&http.Client{Transport: thiefOf(t, real)}, plane.SidecarURL)
	held := 0
	for n := range 8 {
		w := thief.Watch(t.Context())
		w.RequestHeader().Set(api.HeaderOpening, fmt.Sprintf("1.%d", 6+n))
		_ = w.Send(&api.WatchRequest{})
		if _, err := w.Receive(); err == nil {
			held++
		}
		if connect.CodeOf(open()) == connect.CodePermissionDenied {
			break
		}
	}
	if held != 1 {
		t.Errorf("the thief held the stream %d times", held)
	}
	var sandbox control.Sandbox
	team.Must(t, "GET", "sandboxes/"+id, nil, &sandbox)
	if sandbox.State != control.SandboxLocked {
		t.Errorf("the sandbox is %s", sandbox.State)
	}
	if n := events(t, team, "sandbox.lock", id); n != 1 {
		t.Errorf("%d events of the lock", n)
	}
}
