package agentapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/controltest"
	"sallyport/control/external"
	"sallyport/control/external/externaltest"
	"sallyport/control/store"
)

const (
	opening = "hvs.canary-opening-0123456789"
	lying   = "sk_live_canary_lying_0123456789"
)

// lies makes a credential "x" for apiHost whose secret lies in a store, by the source
// "vault", beside that of Setup.
func lies(t *testing.T, team *controltest.Team, v *externaltest.FakeVault) control.Credential {
	t.Helper()
	team.Setup(t, "sk_live_1")
	sourceOf(t, team, v)
	var c control.Credential
	team.Must(t, "POST", "vaults/v/credentials", reference("x", apiHost), &c)
	return c
}

func reference(name, host string) map[string]any {
	return map[string]any{"name": name, "hosts": []string{host}, "from": "vault:kv/data/stripe#api_key"}
}

func sourceOf(t *testing.T, team *controltest.Team, v *externaltest.FakeVault) {
	t.Helper()
	server := httptest.NewTLSServer(v)
	t.Cleanup(server.Close)
	v.Allow(opening, "kv/data/")
	v.Put("kv/stripe", map[string]any{"api_key": lying})
	team.Must(t, "POST", "vaults/v/sources", map[string]any{
		"name": "vault", "kind": "vault", "settings": map[string]string{"address": server.URL}, "secret": opening,
	}, nil)
}

// A secret that lies in a team's own store is leased like any other, and told by where
// it lies. Nothing of it, or of what opens the store, is in the database, an answer or
// the log.
func TestSecretThatLiesElsewhere(t *testing.T) {
	v := externaltest.NewFakeVault()
	team := plane.NewTeam(t)
	c := lies(t, team, v)
	if c.From.String() != "vault:kv/data/stripe#api_key" || c.FromVersion != "1" {
		t.Errorf("the credential says %v, %q", c.From, c.FromVersion)
	}
	sidecars := []*controltest.Sidecar{team.Join(t), team.Join(t)}
	before := v.Asked()
	var all sync.WaitGroup
	for _, s := range slices.Repeat(sidecars, 4) {
		all.Go(func() {
			if got := fetched(t, s, c.ID, 1); got != lying {
				t.Error("the material is not the secret")
			}
		})
	}
	all.Wait()
	if n := v.Asked() - before; n != 1 {
		t.Errorf("the store was asked %d times by eight leases at once", n)
	}
	if !slices.ContainsFunc(team.Events(t), func(e control.Event) bool {
		return e.Kind == "grant" && e.Credential == "v/x" && e.Detail == "from vault:kv/data/stripe#api_key version 1"
	}) {
		t.Errorf("no grant says where the secret lies: %+v", team.Events(t))
	}

	// A change there is the next version once it is asked for.
	v.Put("kv/stripe", map[string]any{"api_key": "sk_live_canary_second_0123456789"})
	var rotation control.Rotation
	team.Must(t, "POST", "vaults/v/credentials/x/refresh", nil, &rotation)
	if got := fetched(t, sidecars[0], c.ID, 2); got != "sk_live_canary_second_0123456789" || rotation.Version != 2 {
		t.Errorf("after a refresh, %+v", rotation)
	}
	if _, err := sidecars[0].Fetch(t.Context(), c.ID, 1, apiHost); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("the old version: %v", err)
	}
	// And without being asked for, by a lease: version 3 is of the second, and is read anew.
	team.Must(t, "PATCH", "vaults/v/credentials/x", map[string]any{"settings": map[string]string{}}, nil)
	v.Put("kv/stripe", map[string]any{"api_key": lying})
	if _, err := sidecars[0].Fetch(t.Context(), c.ID, 3, apiHost); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("a version whose secret is another by now: %v", err)
	}
	if got := fetched(t, sidecars[1], c.ID, 4); got != lying {
		t.Error("the next version is not what lies there")
	}
	if !slices.ContainsFunc(team.Events(t), func(e control.Event) bool {
		return e.Kind == "credential.refresh" && e.Actor == "system" && e.Detail == "changed in vault:kv/data/stripe#api_key version 3"
	}) {
		t.Error("no event tells of the change")
	}
	if r := team.Call(t, "POST", "vaults/v/credentials/x/rotate", map[string]any{"secret": "another"}); r.Status != 409 || !strings.Contains(r.Body, "credential refresh") {
		t.Errorf("a rotation: %d %s", r.Status, r.Body)
	}
	if r := team.Call(t, "DELETE", "vaults/v/sources/vault", nil); r.Status != 409 {
		t.Errorf("a source that is used is removed: %d %s", r.Status, r.Body)
	}

	held := dump(t) + plane.Log.String()
	for _, path := range []string{"vaults/v/sources", "vaults/v/sources/vault", "vaults/v/credentials/x", "audit"} {
		held += team.Call(t, "GET", path, nil).Body
	}
	for _, secret := range []string{opening, lying, "canary_second"} {
		if strings.Contains(held, secret) {
			t.Errorf("%s is in the database, an answer or the log", secret)
		}
	}
	if err := plane.Store.VerifyChain(t.Context(), team.ID); err != nil {
		t.Error(err)
	}
}

// TestChangeIsNobodysRequest: a version that is made because a secret was found changed is
// not what a request with an idempotency key did, which may be sent again.
func TestChangeIsNobodysRequest(t *testing.T) {
	v := externaltest.NewFakeVault()
	team := plane.NewTeam(t)
	lies(t, team, v)
	v.Put("kv/stripe", map[string]any{"api_key": "sk_live_canary_second_0123456789"})
	bound, err := plane.Store.Current(t.Context(), team.ID, "v", "x")
	if err != nil {
		t.Fatal(err)
	}
	once := store.Once{Token: bytes.Repeat([]byte{1}, 32), Key: []byte(team.ID)[:32], Request: make([]byte, 32)}
	if _, err := plane.Admin.Secrets.Open(store.WithOnce(t.Context(), once), bound); !errors.Is(err, external.ErrChanged) {
		t.Fatal(err)
	}
	if _, err := plane.Store.Done(t.Context(), once); control.CodeOf(err) != control.CodeNotFound {
		t.Errorf("the key is used up: %v", err)
	}
}

// dump is every row of every table that could hold a secret, as text.
func dump(t *testing.T) (all string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), plane.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, table := range []string{"sources", "credentials", "credential_versions", "audit_events", "leases", "idempotency_keys"} {
		rows, err := conn.Query(t.Context(), `select t::text from `+table+` t`)
		if err != nil {
			t.Fatal(err)
		}
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		all += strings.Join(texts, "\n")
	}
	bytes, err := conn.Query(t.Context(), `select encode(ciphertext, 'escape') from credential_versions union all select encode(ciphertext, 'escape') from sources`)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := pgx.CollectRows(bytes, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all + strings.Join(texts, "\n")
}

// A source is of one vault of one team: no other team, and no other vault, gets at what
// it opens by naming it.
func TestSourceOfAnotherTeam(t *testing.T) {
	v := externaltest.NewFakeVault()
	victim, thief := plane.NewTeam(t), plane.NewTeam(t)
	lies(t, victim, v)
	thief.Setup(t, "sk_live_1")
	thief.Must(t, "POST", "vaults", map[string]any{"name": "w"}, nil)
	before := v.Asked()
	for _, vault := range []string{"v", "w"} {
		if r := thief.Call(t, "POST", "vaults/"+vault+"/credentials", reference("y", "evil.example.com")); r.Status != 404 {
			t.Errorf("another team's source: %d %s", r.Status, r.Body)
		}
	}
	victim.Must(t, "POST", "vaults", map[string]any{"name": "w"}, nil)
	if r := victim.Call(t, "POST", "vaults/w/credentials", reference("y", "evil.example.com")); r.Status != 404 {
		t.Errorf("another vault's source: %d %s", r.Status, r.Body)
	}
	for _, path := range []string{"/v1/teams/" + victim.Name + "/vaults/v/sources", "/v1/teams/" + victim.Name + "/vaults/v/sources/vault"} {
		token := "sp_" + strings.Repeat("a", 43)
		if r := plane.Do(t, token, "GET", path, nil); r.Status != 401 {
			t.Errorf("%s: %d", path, r.Status)
		}
	}
	if v.Asked() != before {
		t.Error("the store was asked for somebody else")
	}

	// Not even by who writes to the database: what opens it is sealed to its place.
	sourceOf(t, thief, externaltest.NewFakeVault())
	conn, err := pgx.Connect(t.Context(), plane.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	tag, err := conn.Exec(t.Context(), `
		update sources s set salt = sha256(v.salt), commitment = v.commitment, ciphertext = v.ciphertext, settings = v.settings
		from sources v where v.team_id = $1 and s.team_id = $2`, victim.ID, thief.ID)
	if err != nil || tag.RowsAffected() != 1 {
		t.Fatal(tag, err)
	}
	if r := thief.Call(t, "POST", "vaults/v/credentials", reference("y", "evil.example.com")); r.Status != 500 || v.Asked() != before {
		t.Errorf("a source with another team's secret: %d %s, and the store was asked %d times", r.Status, r.Body, v.Asked()-before)
	}
}

// A source that fails is told by its name and by nothing that it wrote; what it has that
// no header can carry is never leased.
func TestSourceFails(t *testing.T) {
	v := externaltest.NewFakeVault()
	team := plane.NewTeam(t)
	c := lies(t, team, v)
	s := team.Join(t)
	secret := func(value string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"data": map[string]any{"api_key": value}, "metadata": map[string]any{"version": 9}}})
		}
	}
	version := uint64(1)
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"an echo": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			io.WriteString(w, `{"errors": ["`+r.Header.Get("X-Vault-Token")+`"]}`)
		}, "answers 400"},
		"a line break": {secret("canary\r\nX-Evil: canary"), "a control character"},
		"a NUL":        {secret("canary\x00"), "a control character"},
		"nothing":      {secret(""), "is empty"},
		"too long":     {secret(strings.Repeat("canary", 5000)), "longer than"},
		"sealed":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, "answers 503"},
	} {
		v.Answer(tc.answer)
		r := team.Call(t, "POST", "vaults/v/credentials/x/refresh", nil)
		if r.Status != 502 || !strings.Contains(r.Body, "the source v/vault") || !strings.Contains(r.Body, tc.want) || strings.Contains(r.Body, "canary") {
			t.Errorf("%s, by a refresh: %d %s", name, r.Status, r.Body)
		}
		v.Answer(nil)
		team.Must(t, "PATCH", "vaults/v/credentials/x", map[string]any{"settings": map[string]string{}}, nil) // a version that nobody has read
		version++
		v.Answer(tc.answer)
		_, err := s.Fetch(t.Context(), c.ID, version, apiHost)
		if connect.CodeOf(err) != connect.CodeAborted || !strings.Contains(err.Error(), "the source v/vault") || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s, by a lease: %v", name, err)
		}
		now := c
		now.Version = int64(version)
		if err := plane.Secrets.Trouble(now); err == nil || !strings.Contains(err.Error(), "the source v/vault") || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s, as it is explained: %v", name, err)
		}
	}
	if strings.Contains(plane.Log.String(), opening) {
		t.Error("the log has what opens the store")
	}
}

// A store that hangs holds up its own team's leases, and nobody else's.
func TestSourceHangs(t *testing.T) {
	hanging, slow := externaltest.NewFakeVault(), plane.NewTeam(t)
	lies(t, slow, hanging)
	var ids []string
	for i := range 12 {
		var c control.Credential
		slow.Must(t, "POST", "vaults/v/credentials", reference(fmt.Sprintf("x%d", i), fmt.Sprintf("a%d.example.com", i)), &c)
		ids = append(ids, c.ID)
	}
	other := plane.NewTeam(t)
	c := lies(t, other, externaltest.NewFakeVault())
	victim, waiting := other.Join(t), slow.Join(t)
	release := make(chan struct{})
	var asked sync.WaitGroup
	hanging.Answer(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	before := hanging.Asked()
	for i, id := range ids {
		asked.Go(func() {
			_, err := waiting.Client.Fetch(t.Context(), connect.NewRequest(&api.FetchRequest{CredentialId: id, Version: 1, Host: fmt.Sprintf("a%d.example.com", i)}))
			if connect.CodeOf(err) != connect.CodeAborted {
				t.Errorf("of a store that hangs: %v", err)
			}
		})
	}
	for hanging.Asked()-before < 4 {
		time.Sleep(time.Millisecond)
	}
	if got := fetched(t, victim, c.ID, 1); got != lying {
		t.Error("the other team got something else")
	}
	if n := hanging.Asked() - before; n != 4 {
		t.Errorf("a store that hangs is asked %d times at once", n)
	}
	asked.Wait()
	close(release)
}

// A store that gives another secret at every reading makes a few versions, and then
// none: neither sidecars nor the database are kept busy by it.
func TestSourceThatNeverSettles(t *testing.T) {
	v := externaltest.NewFakeVault()
	team := plane.NewTeam(t)
	c := lies(t, team, v)
	s := team.Join(t)
	var n atomic.Int64
	v.Answer(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"data": {"data": {"api_key": "sk_live_%020d"}, "metadata": {"version": 9}}}`, n.Add(1))
	})
	const tries = 20
	for range tries {
		var now control.Credential
		team.Must(t, "GET", "vaults/v/credentials/x", nil, &now)
		ctx, heard := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := s.Fetch(ctx, c.ID, uint64(now.Version), apiHost)
			done <- err
		}()
		for next := now; next.Version == now.Version && len(done) == 0; { // as a sidecar hears of it
			team.Must(t, "GET", "vaults/v/credentials/x", nil, &next)
		}
		heard()
		if err := <-done; connect.CodeOf(err) == connect.CodeAborted {
			if now.Version > tries/2 {
				t.Errorf("a store that never settles made %d versions", now.Version)
			}
			return
		}
	}
	t.Errorf("a store that never settles makes versions without end")
}
