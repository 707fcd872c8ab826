package e2e_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/control"
	"sallyport/control/controltest"
	"sallyport/e2e"
)

// TestRenewal: a sidecar renews its certificate, and goes on by the new one. The control
// plane's clock is behind, so that a certificate is due as soon as it is made.
func TestRenewal(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	plane := controltest.Start(t, -50*time.Minute)
	team := plane.NewTeam(t)
	team.Setup(t, token)
	id, joinToken := team.NewSandbox(t)
	file := filepath.Join(w.Dir, "join-token")
	if err := os.WriteFile(file, []byte(joinToken), 0o600); err != nil {
		t.Fatal(err)
	}
	w.StartOutside(w.Program("sallyport-sidecar"), "init", "--control", plane.SidecarURL, "--join-token-file", file, "--", "cat")
	w.Eventually("the certificate is renewed", func() bool {
		known, err := plane.Store.Identity(t.Context(), team.ID, id)
		return err == nil && known.Generation == 2
	})
	w.Eventually("the sidecar is connected", func() bool {
		known, err := plane.Store.Sandbox(t.Context(), team.ID, id)
		return err == nil && known.Connected
	})
	var rotation control.Rotation
	team.Must(t, "POST", "vaults/v/credentials/stripe/rotate?wait=20s", map[string]any{"secret": "sk_live_of_the_renewed"}, &rotation)
	if rotation.Acknowledged != 1 {
		t.Errorf("the sidecar did not hear of a rotation: %+v", rotation)
	}
	if known, err := plane.Store.Identity(t.Context(), team.ID, id); err != nil || known.State != control.SandboxEnrolled || known.Generation != 2 {
		t.Errorf("the sandbox is %+v, %v", known, err)
	}
}
