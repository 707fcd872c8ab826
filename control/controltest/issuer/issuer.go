// Package issuer starts an OpenID provider for tests.
package issuer

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
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
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(free.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	cmd := exec.Command("../../.cache/bin/oidc-example-server")
	cmd.Env = append(os.Environ(), "PORT="+port, "USERS_FILE="+file, "REDIRECT_URI="+redirect)
	if err := cmd.Start(); err != nil {
		t.Fatalf("the issuer (scripts/setup test builds it): %v", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait() // killed
	})
	url = "http://localhost:" + port + "/"
	for range 500 {
		if r, err := http.Get(url + ".well-known/openid-configuration"); err == nil {
			r.Body.Close()
			return url
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the issuer does not answer")
	return ""
}
