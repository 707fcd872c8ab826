package admin_test

import (
	"strings"
	"testing"
)

// TestWeakSecretsAreStoredWithAWarning: who stores a short one is told what that means.
func TestWeakSecretsAreStoredWithAWarning(t *testing.T) {
	team := plane.NewTeam(t)
	team.Call(t, "POST", "vaults", map[string]any{"name": "v"})
	for secret, warning := range map[string]string{
		"hunter2": "no request will carry it", "Tr0ub4dor&3": "an answer that repeats it is refused", "sk_live_0123456789": "",
	} {
		for path, body := range map[string]map[string]any{
			"vaults/v/credentials":          {"name": "c", "hosts": []string{"weak.example.com"}, "secret": secret},
			"vaults/v/credentials/c/rotate": {"secret": secret},
		} {
			if strings.HasSuffix(path, "rotate") {
				team.Call(t, "POST", "vaults/v/credentials", map[string]any{"name": "c", "hosts": []string{"weak.example.com"}, "secret": "sk_live_0123456789"})
			}
			r := team.Call(t, "POST", path, body)
			text := string(r.Body)
			if r.Status >= 300 || strings.Contains(text, secret) || strings.Contains(text, `"warning"`) != (warning != "") || !strings.Contains(text, warning) {
				t.Errorf("%s: %d %s", path, r.Status, text)
			}
			if stored := team.Call(t, "GET", "vaults/v/credentials/c", nil); strings.Contains(string(stored.Body), "warning") {
				t.Errorf("read afterwards: %s", stored.Body)
			}
			team.Call(t, "DELETE", "vaults/v/credentials/c", nil)
		}
	}
}
