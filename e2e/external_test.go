package e2e_test

import (
	"net/http"
	"strings"
	"testing"

	"sallyport/control/external/externaltest"
	"sallyport/e2e"
)

// TestSecretLiesInTheTeamsStore: an agent uses a secret that lies in the team's own
// store. What is changed there is used from the next lease on, and at once after a
// refresh; when the store is away, what is leased goes on.
func TestSecretLiesInTheTeamsStore(t *testing.T) {
	const opening = "hvs.opening-0123456789abcdef"
	w := e2e.NewWorld(t, e2e.Race)
	store := externaltest.NewFakeVault()
	store.Allow(opening, "kv/data/agents/")
	server := w.OriginServer("localhost", http.HandlerFunc(store.ServeHTTP), "http/1.1")
	_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	useWhatLiesInVault(t, w, vaultOf{"https://localhost:" + port, opening, func(key string) { store.Put("kv/agents/echo", map[string]any{"key": key}) }, server.Close})
}

// vaultOf is a Vault of a team's: with what token it is opened, and how its test changes
// the field key of kv/agents/echo there, and stops it.
type vaultOf struct {
	address, opening string
	put              func(key string)
	stop             func()
}

func useWhatLiesInVault(t *testing.T, w *e2e.World, v vaultOf) {
	t.Helper()
	const third, fourth = "echo-third-key-0123456789abcdef", "echo-fourth-key-0123456789abcdef"
	v.put(oldKey)
	w.CLI("vault", "create", "agent")
	w.CLIReading(v.opening, "source", "add", "--vault", "agent", "--name", "team", "--kind", "vault", "--setting", "address="+v.address, "--setting", "prefix=kv/data/agents/", "--secret-file", "-")
	w.CLI("credential", "add", "--vault", "agent", "--name", "agent", "--host", e2e.EchoHost, "--inject", "bearer", "--from", "team:kv/data/agents/echo#key")
	w.CLI("agent", "create", "agent")
	w.CLI("agent", "pin", "agent", "agent")
	agent := w.Start("agent", "bash", "-c",
		`while read -r path; do curl -sS -o /dev/null -w '%{http_code}\n' "https://`+e2e.EchoHost+`$path" || echo failed; done`)
	sent := func(path, key string) {
		t.Helper()
		if got := agent.Ask(path); got != "200" {
			t.Fatalf("%s: curl got %s\n%s", path, got, w.ControlLog())
		}
		if got := w.Nginx.Seen(path)[0].Authorization; got != "Bearer "+key {
			t.Errorf("%s: upstream got %q", path, got)
		}
	}
	refresh := func() string { return w.CLI("credential", "refresh", "--vault", "agent", "agent", "--wait") }

	sent("/first", oldKey)
	v.put(newKey)
	if said := refresh(); !strings.Contains(said, "version 2; 1 of 1 connected sandboxes use it") {
		t.Errorf("refresh says %s", said)
	}
	sent("/refreshed", newKey)
	// Of the third nobody has a lease yet when it is changed: the lease itself finds that.
	v.put(third)
	refresh()
	v.put(fourth)
	sent("/changed", fourth)
	v.stop()
	sent("/away", fourth)

	if shown := w.CLI("credential", "show", "--vault", "agent", "agent"); !strings.Contains(shown, "team:kv/data/agents/echo#key, version 4") {
		t.Errorf("credential show says %s", shown)
	}
	said := w.ControlLog() + w.CLI("audit", "list", "-o", "json") + w.CLI("source", "list", "--vault", "agent")
	for _, secret := range []string{v.opening, oldKey, newKey, third, fourth} {
		if strings.Contains(said, secret) {
			t.Errorf("%s is in a log or an answer", secret)
		}
	}
}
