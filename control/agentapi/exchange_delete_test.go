package agentapi_test

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
	"sallyport/control/controltest"
)

// TestRevocationWaitsForNoExchange: a credential that is removed while a token endpoint which
// never answers has its refresh token waits for that, and nobody else waits for either.
func TestRevocationWaitsForNoExchange(t *testing.T) {
	for name, path := range map[string]string{"a credential": "vaults/w/credentials/x", "a vault": "vaults/w"} {
		t.Run(name, func(t *testing.T) {
			slow, team := controltest.NewOAuth(t, time.Hour), plane.NewTeam(t)
			team.Setup(t, "sk_live_1")
			c, arrived, over, end := hanging(t, team, slow)
			s, thief := team.Join(t), team.Join(t)
			var asking sync.WaitGroup
			defer asking.Wait()
			defer close(end)
			asking.Go(func() { s.Fetch(t.Context(), c.ID, 1, apiHost) })
			<-arrived
			asking.Go(func() {
				if r := team.Call(t, "DELETE", path, nil); r.Status != http.StatusNoContent {
					t.Errorf("%d %s", r.Status, r.Body)
				}
			})
			waits(t)
			team.Must(t, "DELETE", "sandboxes/"+thief.ID, nil, nil)
			select {
			case <-over:
				t.Error("the revocation has waited for the token endpoint")
			default:
			}
		})
	}
}

// TestRemovalsHoldUpNobody: whoever removes a credential over and over while a token endpoint
// that never answers has its refresh token leaves connections to the database to others.
func TestRemovalsHoldUpNobody(t *testing.T) {
	slow, team, other := controltest.NewOAuth(t, time.Hour), plane.NewTeam(t), plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	c, arrived, over, end := hanging(t, team, slow)
	s := team.Join(t)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer close(end)
	asking.Go(func() { s.Fetch(t.Context(), c.ID, 1, apiHost) })
	<-arrived
	const many = 60 // more than there are connections
	sent := make(chan struct{}, many)
	for range many {
		asking.Go(func() {
			sent <- struct{}{}
			team.Call(t, "DELETE", "vaults/w/credentials/x", nil)
		})
	}
	for range many {
		<-sent
	}
	waits(t)
	for range 50 {
		other.Must(t, "GET", "vaults", nil, nil)
	}
	select {
	case <-over:
		t.Error("another team has waited for the token endpoint")
	default:
	}
}

// hanging stores a credential w/x whose token endpoint never answers before end is closed:
// over is when whoever asked it has gone.
func hanging(t *testing.T, team *controltest.Team, slow *controltest.OAuth) (c control.Credential, arrived, over, end chan struct{}) {
	arrived, over, end = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	slow.Answer(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // or nobody notices that it has gone
		arrived <- struct{}{}
		select {
		case <-end:
		case <-r.Context().Done():
			close(over)
		}
	})
	team.Must(t, "POST", "vaults", map[string]any{"name": "w"}, nil)
	team.Must(t, "POST", "vaults/w/credentials", map[string]any{
		"name": "x", "hosts": []string{apiHost}, "auth": control.AuthOAuthRefresh, "settings": client(slow),
		"secret": fmt.Sprintf(`{"refresh_token": "canary-refresh", "client_secret": %q}`, controltest.ClientSecret),
	}, &c)
	team.Must(t, "PUT", "agents/a/pins/w", nil, nil)
	return c, arrived, over, end
}

// waits returns once a statement waits for a lock.
func waits(t *testing.T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), plane.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for some := false; !some; time.Sleep(time.Millisecond) {
		err := conn.QueryRow(t.Context(), `select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query ~ 'credentials|vaults')`).Scan(&some)
		if err != nil {
			t.Fatal(err)
		}
	}
}
