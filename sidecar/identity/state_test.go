package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"sallyport/control/api"
)

func TestMarshalRestore(t *testing.T) {
	f, url := newFakeControl(t)
	i := enrolled(t, f, url)
	if err := i.renewOnce(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	f.fail = errors.New("the answer is lost")
	var state State
	keep := func() error {
		if len(f.renewed) > 1 {
			t.Error("the next renewal was asked for before it was kept")
		}
		state = must(i.Marshal())
		return nil
	}
	if i.csr != nil {
		t.Error("there is a request before it is time: a copy of the identity would have it")
	}
	if err := i.renewOnce(t.Context(), keep); err == nil {
		t.Fatal("renewed without an answer")
	}
	f.fail = nil
	back, err := Restore(url, state)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	if len(bytes.Trim(state, "\x00")) > 0 {
		t.Error("the state was not wiped")
	}
	if back.Team() != "default" || back.Agent() != "billing" || back.Sandbox() != "s1" || back.certificate.Load().generation != 2 {
		t.Errorf("restored as %s/%s/%s, generation %d", back.Team(), back.Agent(), back.Sandbox(), back.certificate.Load().generation)
	}
	sealed := must(api.SealMaterial(i.SealKey().PublicKey().Bytes(), "c", 1, api.Material{Token: []byte("x")}))
	if _, err := api.OpenMaterial(back.SealKey(), "c", 1, sealed); err != nil {
		t.Errorf("the restored seal key: %v", err)
	}
	back.Client().Report(t.Context(), connect.NewRequest(&api.ReportRequest{}))
	if got := f.clients[len(f.clients)-1]; !got.Equal(i.certificate.Load().leaf) {
		t.Error("the restored identity shows another certificate")
	}
	if err := back.renewOnce(t.Context(), func() error { return errors.New("it was kept before") }); err != nil {
		t.Error(err)
	}
	last := f.renewed[len(f.renewed)-1]
	if !bytes.Equal(last.Csr, i.csr) {
		t.Error("a restarted worker asks with another request: a lost answer could not be asked for again")
	}
	if bytes.Equal(last.Csr, f.renewed[0].Csr) {
		t.Error("two renewals are one request: a copied identity would pass for a lost answer")
	}
}

// What can't be kept is not sent: the next worker could not ask for a lost answer.
func TestRenewalIsKeptBeforeItIsSent(t *testing.T) {
	f, url := newFakeControl(t)
	i := enrolled(t, f, url)
	if err := i.renewOnce(t.Context(), func() error { return errors.New("full") }); err == nil || len(f.renewed) != 0 {
		t.Errorf("%d requests were sent, %v", len(f.renewed), err)
	}
	if err := i.renewOnce(t.Context(), kept); err != nil || len(f.renewed) != 1 {
		t.Errorf("then %d requests were sent, %v", len(f.renewed), err)
	}
}

func TestRestoreMalformed(t *testing.T) {
	f, url := newFakeControl(t)
	state := must(enrolled(t, f, url).Marshal())
	for n := range state {
		if _, err := Restore(url, bytes.Clone(state[:n])); err == nil {
			t.Fatalf("restored from %d of %d bytes", n, len(state))
		}
	}
	if _, err := Restore(url, append(bytes.Clone(state), 0)); err == nil {
		t.Error("restored from a state with a byte too many")
	}
}

func TestStateNeverShown(t *testing.T) {
	s := State("canary")
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", struct{ S State }{s})
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "s", s)
	if err := json.NewEncoder(&out).Encode(map[string]any{"s": s}); err != nil {
		t.Fatal(err)
	}
	if shown := out.String(); strings.Contains(shown, "canary") || strings.Contains(shown, fmt.Sprintf("%x", "canary")) || strings.Contains(shown, "[99 97") {
		t.Errorf("the state is shown:\n%s", shown)
	}
}
