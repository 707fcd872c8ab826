//go:build peers

package e2e_test

import (
	"testing"

	realvault "sallyport/control/controltest/vault"
	"sallyport/e2e"
)

// TestPeerSecretLiesInVault is TestSecretLiesInTheTeamsStore with a real HashiCorp Vault.
func TestPeerSecretLiesInVault(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	certificate, key := w.Certificate("localhost")
	v := realvault.StartWith(t, certificate, key, w.UpstreamCA())
	v.KV(t, "kv", "2")
	opening := v.Token(t, `path "kv/data/agents/*" { capabilities = ["read"] }`, nil)
	useWhatLiesInVault(t, w, vaultOf{v.Address, opening, func(key string) {
		v.Do(t, "kv/data/agents/echo", map[string]any{"data": map[string]any{"key": key}})
	}, func() { v.Stop(t) }})
}
