package agentapi_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"sallyport/control"
)

// connected is how many sidecars a rotation says that it waits for.
func connected(t *testing.T, rotate func(any)) int {
	t.Helper()
	var r control.Rotation
	rotate(&r)
	return r.Connected
}

// TestRotationWaitsForLostStreams: a sidecar whose stream was ended by the control plane,
// or has broken off, uses what it has until it is back, so a rotation waits for it. One
// that has said that it is done is gone.
func TestRotationWaitsForLostStreams(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	rotate := func(r any) {
		t.Helper()
		team.Must(t, "POST", "vaults/v/credentials/stripe/rotate", map[string]any{"secret": "sk_live_2"}, r)
	}
	url, stop := replica(t)
	s := team.Join(t)
	s.Move(t, url)
	w, _ := watch(t, s)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := w.ends(); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("the stream of a replica that ends: %v", err)
	}
	if n := connected(t, rotate); n != 1 {
		t.Errorf("a rotation after a replica has ended waits for %d", n)
	}
	s.Move(t, plane.SidecarURL)
	w, _ = watch(t, s)
	s.Break(t)
	w.ends()
	if n := connected(t, rotate); n != 1 {
		t.Errorf("a rotation after a connection has broken waits for %d", n)
	}
	w, _ = watch(t, s)
	if err := w.CloseRequest(); err != nil {
		t.Fatal(err)
	}
	w.ends()
	for end := time.Now().Add(patience); connected(t, rotate) != 0; {
		if time.Now().After(end) {
			t.Fatal("a rotation waits for a sidecar that is done")
		}
	}
	// What broke off does not count for good.
	w, _ = watch(t, s)
	s.Break(t)
	w.ends()
	for end := time.Now().Add(patience); connected(t, rotate) != 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a rotation waits for a sidecar that does not come back")
		}
	}
	// One that is removed meanwhile will not, and nobody waits for it a moment longer.
	w, _ = watch(t, s)
	s.Break(t)
	w.ends()
	team.Must(t, "DELETE", "sandboxes/"+s.ID, nil, nil)
	if n := connected(t, rotate); n != 0 {
		t.Errorf("a rotation after a sandbox was removed waits for %d", n)
	}
}
