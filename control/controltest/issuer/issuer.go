// Package issuer starts an OpenID provider for tests.
package issuer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"sallyport/control/controltest/server"
)

// Start starts the example server of zitadel/oidc, a certified OpenID provider that
// nobody here wrote, which leads back to redirect. Its users are alice, mallory, and trent
// whose address is not verified; their password is "verysecure". The test's package must
// be two folders deep.
func Start(t *testing.T, redirect string) (url string) {
	t.Helper()
	type user struct {
		ID, Username, Password, FirstName, LastName, Email, PreferredLanguage string
		EmailVerified                                                         bool
	}
	users := map[string]user{}
	for name, verified := range map[string]bool{"alice": true, "mallory": true, "trent": false} {
		users["id-"+name] = user{ID: "id-" + name, Username: name, Password: "verysecure", Email: name + "@example.com", EmailVerified: verified, PreferredLanguage: "en"}
	}
	text, err := json.Marshal(users)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return server.Start(t, "../../.cache/bin/oidc-example-server", "USERS_FILE="+file, "REDIRECT_URI="+redirect) + "/"
}
