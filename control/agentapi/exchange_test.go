package agentapi_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/controltest"
)

const apiHost = "api.example.com"

// exchanged stores a credential "x" for apiHost beside that of Setup.
func exchanged(t *testing.T, team *controltest.Team, auth control.Auth, settings control.Settings, secret string) control.Credential {
	t.Helper()
	team.Setup(t, "sk_live_1")
	var c control.Credential
	team.Must(t, "POST", "vaults/v/credentials", map[string]any{
		"name": "x", "hosts": []string{apiHost}, "auth": auth, "settings": settings, "secret": secret,
	}, &c)
	return c
}

func client(o *controltest.OAuth) control.Settings {
	return control.Settings{"token_url": o.TokenURL, "client_id": controltest.ClientID}
}

// Many sandboxes that ask at once cost one exchange, get the access token and never
// the secret, and a lease that ends before the token does.
func TestClientCredentials(t *testing.T) {
	o := controltest.NewOAuth(t, 10*time.Minute)
	team := plane.NewTeam(t)
	c := exchanged(t, team, control.AuthOAuthClient, client(o), controltest.ClientSecret)
	sidecars := []*controltest.Sidecar{team.Join(t), team.Join(t), team.Join(t)}
	var all sync.WaitGroup
	for _, s := range slices.Repeat(sidecars, 4) {
		all.Go(func() {
			before := time.Now()
			response, err := s.Client.Fetch(t.Context(), connect.NewRequest(&api.FetchRequest{CredentialId: c.ID, Version: 1, Host: apiHost}))
			if err != nil {
				t.Error(err)
				return
			}
			m, err := api.OpenMaterial(s.SealKey, c.ID, 1, response.Msg.GetSealed())
			access, _, _ := o.Given()
			if err != nil || len(access) != 1 || string(m.Token) != access[0] {
				t.Errorf("the material is not the access token: %v", err)
			}
			if hard := response.Msg.GetHardExpiry().AsTime(); hard.After(before.Add(10 * time.Minute)) {
				t.Errorf("the lease serves until %v, longer than the token", hard)
			}
		})
	}
	all.Wait()
	if _, _, asked := o.Given(); asked != 1 {
		t.Errorf("%d exchanges, want 1", asked)
	}

	// A rotation does away with what was minted, and so do other settings.
	team.Must(t, "POST", "vaults/v/credentials/x/rotate", map[string]any{"secret": controltest.ClientSecret}, nil)
	if _, err := sidecars[0].Fetch(t.Context(), c.ID, 1, apiHost); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("the old version: %v", err)
	}
	second := fetched(t, sidecars[0], c.ID, 2)
	settings := client(o)
	settings["scope"] = "read"
	team.Must(t, "PATCH", "vaults/v/credentials/x", map[string]any{"settings": settings}, nil)
	third := fetched(t, sidecars[0], c.ID, 3)
	if access, _, _ := o.Given(); len(access) != 3 || second != access[1] || third != access[2] {
		t.Errorf("after a rotation and a change of settings there were %d tokens", len(access))
	}
	if log := plane.Log.String(); strings.Contains(log, controltest.ClientSecret) || strings.Contains(log, third) {
		t.Error("the log has a secret in it")
	}
}

func fetched(t *testing.T, s *controltest.Sidecar, credential string, version uint64) string {
	t.Helper()
	m, err := s.Fetch(t.Context(), credential, version, apiHost)
	if err != nil {
		t.Fatal(err)
	}
	return string(m.Token)
}

// An endpoint that fails is not asked at every request, and what it writes, which may
// repeat the secret, is told to nobody.
func TestExchangeFails(t *testing.T) {
	o := controltest.NewOAuth(t, time.Hour)
	team := plane.NewTeam(t)
	c := exchanged(t, team, control.AuthOAuthClient, client(o), controltest.ClientSecret)
	hanging := make(chan struct{})
	defer close(hanging)
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"an echo": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			fmt.Fprintf(w, `{"error": "canary %s", "error_description": "canary"}`, r.Header.Get("Authorization"))
		}, "answers 400"},
		"a code": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(401)
			fmt.Fprint(w, `{"error": "invalid_client", "error_description": "canary"}`)
		}, "answers 401, invalid_client"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, o.TokenURL, http.StatusTemporaryRedirect)
		}, "answers 307"},
		"no token": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"token_type": "canary"}`) }, "can't be reached, or does not answer as it should"},
		"a foreign kind": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"access_token": "canary-canary", "token_type": "mac"}`)
		}, "no bearer token"},
		"a line break": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"access_token": "canary\r\nX: y", "token_type": "bearer"}`)
		}, "no header can carry"},
		"an endless answer": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, "does not answer as it should"},
		"silence": {func(_ http.ResponseWriter, r *http.Request) {
			select { // for longer than anybody waits
			case <-hanging:
			case <-r.Context().Done():
			}
		}, "takes long"},
	} {
		t.Run(name, func(t *testing.T) {
			o.Answer(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				tc.answer(w, r)
			})
			var rotated control.Rotation
			team.Must(t, "POST", "vaults/v/credentials/x/rotate", map[string]any{"secret": controltest.ClientSecret}, &rotated)
			_, _, before := o.Given()
			s := team.Join(t) // of its own: calls are limited
			var said []string
			for range 6 {
				_, err := s.Fetch(t.Context(), c.ID, uint64(rotated.Version), apiHost)
				if connect.CodeOf(err) != connect.CodeAborted || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "canary") {
					t.Fatalf("error %v, want one that says %q", err, tc.want)
				}
				said = append(said, err.Error())
				if name == "silence" {
					break
				}
			}
			if _, _, after := o.Given(); after-before > 1 {
				t.Errorf("%d requests to the endpoint for %d of a sandbox", after-before, len(said))
			}
		})
	}
	if log := plane.Log.String(); strings.Contains(log, "canary") {
		t.Error("the log has what the endpoint wrote")
	}
	o.Answer(nil)
	team.Must(t, "POST", "vaults/v/credentials/x/rotate", map[string]any{"secret": controltest.ClientSecret}, nil)
	fetched(t, team.Join(t), c.ID, 10)
}

// Who uses a refresh token up stores the next before anybody gets the access token,
// and is alone in all replicas.
func TestRefreshTokenIsUsedOnce(t *testing.T) {
	o := controltest.NewOAuth(t, time.Hour)
	team := plane.NewTeam(t)
	first := o.Allow(t)
	c := exchanged(t, team, control.AuthOAuthRefresh, client(o), fmt.Sprintf(`{"refresh_token": %q, "client_secret": %q}`, first, controltest.ClientSecret))
	const replicas = 3
	var sidecars []*controltest.Sidecar
	for range replicas {
		url, _ := replica(t)
		s := team.Join(t)
		s.Move(t, url)
		sidecars = append(sidecars, s)
	}
	var all sync.WaitGroup
	got := make([]string, replicas)
	for i, s := range sidecars {
		all.Go(func() { got[i] = fetched(t, s, c.ID, 1) })
	}
	all.Wait()
	access, refresh, asked := o.Given()
	if asked != 1 || len(access) != 1 || got[0] != access[0] || got[1] != access[0] || got[2] != access[0] {
		t.Fatalf("%d exchanges gave %d tokens to %d replicas, want one for all", asked, len(access), replicas)
	}
	if refresh[0] == first {
		t.Fatal("the server does not rotate refresh tokens")
	}
	// A replica that knows nothing goes on with what was stored.
	expire(t, c)
	url, _ := replica(t)
	late := team.Join(t)
	late.Move(t, url)
	if again := fetched(t, late, c.ID, 1); again == access[0] {
		t.Error("what has expired was given again")
	}
	var read control.Credential
	team.Must(t, "GET", "vaults/v/credentials/x", nil, &read)
	if read.Version != 1 {
		t.Errorf("a new refresh token made version %d for sidecars", read.Version)
	}

	// One that was withdrawn is told as such.
	_, refresh, _ = o.Given()
	o.Withdraw(t, refresh[len(refresh)-1])
	expire(t, c)
	url, _ = replica(t)
	last := team.Join(t)
	last.Move(t, url)
	if _, err := last.Fetch(t.Context(), c.ID, 1, apiHost); connect.CodeOf(err) != connect.CodeAborted || !strings.Contains(err.Error(), "log in again") {
		t.Errorf("one that was withdrawn: %v", err)
	}
	if log := plane.Log.String(); strings.Contains(log, first) || strings.Contains(log, refresh[0]) || strings.Contains(log, controltest.ClientSecret) {
		t.Error("the log has a secret in it")
	}
}

// A refresh token that is used up is not what a change of settings goes on with.
func TestSettingsWhileARefreshTokenIsUsedUp(t *testing.T) {
	o := controltest.NewOAuth(t, time.Hour)
	team := plane.NewTeam(t)
	c := exchanged(t, team, control.AuthOAuthRefresh, client(o), fmt.Sprintf(`{"refresh_token": %q, "client_secret": %q}`, o.Allow(t), controltest.ClientSecret))
	s := team.Join(t)
	used, goOn := make(chan struct{}), make(chan struct{})
	o.Hold(func() {
		close(used)
		<-goOn
	})
	first := make(chan string, 1)
	go func() {
		m, err := s.Fetch(t.Context(), c.ID, 1, apiHost)
		if err != nil {
			t.Error(err)
		}
		first <- string(m.Token)
	}()
	<-used
	o.Hold(nil)
	settings := client(o)
	settings["resource"] = "https://api.example.com"
	change := func() int {
		return team.Call(t, "PATCH", "vaults/v/credentials/x", map[string]any{"settings": settings}).Status
	}
	during := change()
	close(goOn)
	<-first
	if during != http.StatusConflict {
		t.Errorf("while the token is exchanged: status %d", during)
	} else if after := change(); after != http.StatusOK {
		t.Errorf("afterwards: status %d", after)
	}
	fetched(t, s, c.ID, 2)
}

// Three teams whose servers never answer keep no other team's exchanges waiting.
func TestSlowServersOfOtherTeams(t *testing.T) {
	o := controltest.NewOAuth(t, time.Hour)
	arrived, end := make(chan struct{}, 1000), make(chan struct{})
	var asking sync.WaitGroup
	defer asking.Wait()
	defer close(end)
	for range 3 {
		slow := controltest.NewOAuth(t, time.Hour)
		slow.Answer(func(_ http.ResponseWriter, r *http.Request) {
			arrived <- struct{}{}
			select {
			case <-end:
			case <-r.Context().Done():
			}
		})
		hostile := plane.NewTeam(t)
		exchanged(t, hostile, control.AuthOAuthClient, client(slow), controltest.ClientSecret)
		many := hostile.Join(t)
		for i := range 40 {
			var c control.Credential
			body := map[string]any{"name": fmt.Sprint("n", i), "hosts": []string{fmt.Sprintf("n%d.example.com", i)}, "auth": control.AuthOAuthClient, "settings": client(slow), "secret": controltest.ClientSecret}
			if i%2 == 0 {
				body["auth"], body["secret"] = control.AuthOAuthRefresh, fmt.Sprintf(`{"refresh_token": "canary-refresh", "client_secret": %q}`, controltest.ClientSecret)
			}
			hostile.Must(t, "POST", "vaults/v/credentials", body, &c)
			asking.Go(func() { many.Fetch(t.Context(), c.ID, 1, fmt.Sprintf("n%d.example.com", i)) })
		}
	}
	for range 3*8 + 4 { // those that are under way, and no more
		<-arrived
	}
	team := plane.NewTeam(t)
	c := exchanged(t, team, control.AuthOAuthRefresh, client(o), fmt.Sprintf(`{"refresh_token": %q, "client_secret": %q}`, o.Allow(t), controltest.ClientSecret))
	fetched(t, team.Join(t), c.ID, 1)
}

// expire makes what was minted of c expire for all who have not got it.
func expire(t *testing.T, c control.Credential) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), plane.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `update credential_versions set minted_expires_at = now() where credential_id = $1`, c.ID); err != nil {
		t.Fatal(err)
	}
}
