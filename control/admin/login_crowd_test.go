package admin_test

import (
	"io"
	"net/http"
	"testing"

	"sallyport/control"
	"sallyport/control/admin"
)

// TestLoginsOfATeam: one whose token endpoint never answers has a few logins out at once.
func TestLoginsOfATeam(t *testing.T) {
	entered := make(chan struct{}, 1000)
	hang := plane.ServeLocalhost(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // or nobody notices that it has gone
		entered <- struct{}{}
		<-r.Context().Done()
	}))
	c, team := newCrowd(t, nil), plane.NewTeam(t)
	team.Must(t, "POST", "vaults", map[string]any{"name": "v"}, nil)
	team.Must(t, "POST", "vaults/v/credentials", map[string]any{
		"name": "x", "hosts": []string{"api.example.com"}, "auth": "oauth_refresh", "secret": "{}",
		"settings": map[string]string{"token_url": hang + "/token", "auth_url": hang + "/auth", "client_id": "c", "client_auth": "none"},
	}, nil)
	admins := token(t, team, control.RoleAdmin)
	const many = 24
	for range many {
		c.call(admins, "POST", team.Path("vaults/v/credentials/x/login"), `{"code":"a","code_verifier":"b","redirect_uri":"http://127.0.0.1:1/callback"}`)
	}
	c.refused(t, many-admin.OutwardOfTeam)
	for range admin.OutwardOfTeam {
		<-entered
	}
}
