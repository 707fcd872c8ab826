package agentapi_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/control/controltest"
	"sallyport/control/external/externaltest"
)

// mostOfTeam is how many readings of a team may be under way at once.
const mostOfTeam = 12

// A team with many sources, all of a store that hangs for it, has a few readings out at
// once, and leaves connections to the same store to others.
func TestSourcesOfATeamAreBounded(t *testing.T) {
	v := externaltest.NewFakeVault()
	server := httptest.NewTLSServer(v)
	t.Cleanup(server.Close)
	v.Allow(opening, "kv/data/")
	v.Put("kv/stripe", map[string]any{"api_key": lying})
	slow, other := plane.NewTeam(t), plane.NewTeam(t)
	source := func(team *controltest.Team, name, token string) {
		team.Must(t, "POST", "vaults/v/sources", map[string]any{
			"name": name, "kind": "vault", "settings": map[string]string{"address": server.URL}, "secret": token,
		}, nil)
	}
	const sources = 16
	for _, team := range []*controltest.Team{slow, other} {
		team.Must(t, "POST", "vaults", map[string]any{"name": "v"}, nil)
	}
	for i := range sources {
		source(slow, fmt.Sprint("s", i), opening+"-slow")
	}
	source(other, "vault", opening)

	ctx, end := context.WithCancel(t.Context())
	var held, most atomic.Int64
	v.Answer(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.Header.Get("X-Vault-Token"), "-slow") {
			fmt.Fprintf(w, `{"data": {"data": {"api_key": %q}, "metadata": {"version": 1}}}`, lying)
			return
		}
		now := held.Add(1)
		defer held.Add(-1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		select {
		case <-ctx.Done():
		case <-r.Context().Done():
		}
	})
	var asked sync.WaitGroup
	defer asked.Wait()
	defer end()
	for i := range 4 * sources {
		asked.Go(func() {
			slow.Call(t, "POST", "vaults/v/credentials", map[string]any{
				"name": fmt.Sprint("x", i), "hosts": []string{fmt.Sprintf("a%d.example.com", i)}, "from": fmt.Sprintf("s%d:kv/data/stripe#api_key", i%sources),
			})
		})
	}
	for held.Load() < mostOfTeam {
		time.Sleep(time.Millisecond)
	}
	other.Must(t, "POST", "vaults/v/credentials", reference("x", apiHost), nil)
	if n := most.Load(); n > mostOfTeam {
		t.Errorf("%d readings of one team at once", n)
	}
}

// An answer of a store is cut off long before what is made of it fills the memory.
func TestAnswersOfSourcesAreBounded(t *testing.T) {
	v := externaltest.NewFakeVault()
	team := plane.NewTeam(t)
	lies(t, team, v)
	answer := func(padding int) {
		v.Answer(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"data": {"data": {"api_key": %q, "x": [%s{}]}, "metadata": {"version": 1}}}`, lying, strings.Repeat("{},", padding/3))
		})
	}
	answer(200 << 10)
	team.Must(t, "POST", "vaults/v/credentials/x/refresh", nil, nil)
	answer(300 << 10)
	if r := team.Call(t, "POST", "vaults/v/credentials/x/refresh", nil); r.Status != 502 || strings.Contains(r.Body, lying) {
		t.Errorf("an answer that is too long: %d %s", r.Status, r.Body)
	}
}
