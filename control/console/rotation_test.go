package console_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/jackc/pgx/v5"

	"sallyport/control"
	"sallyport/control/controltest"
	"sallyport/control/external/externaltest"
	"sallyport/control/store"
)

// try is an admin.Tester for credentials that are sent as bearer tokens.
func try(ctx context.Context, bound store.Bound, at control.Target, begin func() error) (control.Trial, error) {
	trial := control.Trial{Version: bound.Credential.Version, Method: at.Method, Host: at.Host, Port: at.Port, Path: at.Path, Outcome: control.OutcomeAccepted, Reason: "the service takes it"}
	material, _, err := plane.Sidecars.Material(ctx, bound)
	if err != nil {
		return trial, err
	}
	defer material.Wipe()
	r, err := http.NewRequestWithContext(ctx, at.Method, "https://"+bound.Credential.Hosts[0]+at.Path, nil)
	if err != nil {
		return trial, err
	}
	r.Header.Set("Authorization", "Bearer "+string(material.Token))
	if err := begin(); err != nil {
		return trial, err
	}
	answer, err := plane.Outward.Do(r)
	if err != nil {
		return trial, err
	}
	answer.Body.Close()
	if trial.Status = answer.StatusCode; trial.Status != http.StatusOK {
		trial.Outcome, trial.Reason = control.OutcomeRefused, "the service refuses it"
	}
	return trial, nil
}

// taking is a service that takes one key at a time.
type taking struct {
	mu   sync.Mutex
	good string
}

func (s *taking) take(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.good = key
}

func (s *taking) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+s.good {
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// serve gives the service's name and port, as a credential has them.
func (s *taking) serve(t *testing.T) (host string) {
	t.Helper()
	return strings.TrimPrefix(plane.ServeLocalhost(t, s), "https://")
}

// tested tries the credential whose page is shown.
func (b *tab) tested(outcome, version string) {
	b.t.Helper()
	b.press("Test")
	b.press("Send it")
	b.see(outcome)
	b.see(", version " + version)
	b.press("Done")
	b.closed()
}

// rotation: what is due is found, tried, rotated with an overlap, tried again, and the
// version before retired.
func rotation(t *testing.T, b *tab, url string) {
	const first, second = "a-key-that-was-stored-01", "a-key-that-was-typed-02"
	team := plane.NewTeam(t)
	service := &taking{good: first}
	team.Must(t, "POST", "vaults", map[string]any{"name": "v"}, nil)
	for _, name := range []string{"key", "fresh"} {
		body := map[string]any{"name": name, "hosts": []string{name + ".example.com"}, "secret": first}
		if name == "key" {
			body["hosts"] = []string{service.serve(t)}
		}
		team.Must(t, "POST", "vaults/v/credentials", body, nil)
	}
	b.signIn(url, tokenOf(t, team, control.RoleAdmin))
	page := url + "/console/#/t/" + team.Name + "/vaults/v"
	b.do(chromedp.Navigate(page + "/key"))
	b.see("nobody is reminded")
	b.press("Set a reminder")
	b.enter("To be rotated every", "90 days")
	b.press("Save")
	b.see("is no number of days")
	b.eval(`document.querySelector("dialog input").value = ""`)
	b.enter("To be rotated every", "90d")
	b.press("Save")
	b.see("every 90d, next: in ")
	conn, err := pgx.Connect(t.Context(), plane.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `update credentials set rotated_at = now() - interval '90 days' where team_id = $1 and name = 'key'`, team.ID); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.Navigate(page))
	b.press("Due to be rotated")
	b.until("what is due alone", `[...document.querySelectorAll("tbody tr")].filter((r) => !r.hidden).map((r) => r.cells[0].innerText).join() === "key"`)
	b.shoot("due")
	b.press("key")
	b.see("every 90d, next: due")

	b.tested("accepted", "1")
	b.press("Rotate")
	b.enter("New secret", second)
	b.enter("Overlap", "10m")
	b.press("Rotate")
	b.see("Version 1 stays good; that ends in ")
	b.see("version 1; that ends in ")
	b.see("every 90d, next: in ")
	b.closed()
	b.nowhere("rotated", second)
	b.tested("refused", "2")
	service.take(second)
	b.press("Test")
	b.enter("Path", "/v1/me")
	b.press("Send it")
	b.see("/v1/me, version 2")
	b.see("accepted")
	b.shoot("trial")
	b.press("Done")
	b.press("Retire the version before")
	b.press("Retire it")
	b.see("Version 1 of key is retired.")
	b.until("no overlap", `![...document.querySelectorAll("button, dt")].some((e) => ["Retire the version before", "Also good"].includes(e.innerText))`)
	if c, err := plane.Store.Credential(t.Context(), team.ID, "v", "key"); err != nil || c.Overlap != nil || c.Version != 2 {
		t.Errorf("the credential is %+v, %v", c, err)
	}
}

// addSource gives the vault v of the team a source, which nobody asks.
func addSource(t *testing.T, team *controltest.Team) {
	t.Helper()
	team.Must(t, "POST", "vaults/v/sources", map[string]any{
		"name": "away", "kind": "vault", "settings": map[string]string{"address": "https://vault.example.com", "prefix": "kv/data/a/"}, "secret": "hvs.0123456789",
	}, nil)
}

// sources: a source is added, a credential made of what lies there, tried and read anew;
// what opens the source is written only.
func sources(t *testing.T, b *tab, url string) {
	const opening, other, first, second = "hvs.typed-opening-01", "hvs.typed-opening-02", "a-key-that-lies-there-01", "a-key-that-lies-there-02"
	team := plane.NewTeam(t)
	team.Must(t, "POST", "vaults", map[string]any{"name": "v"}, nil)
	kept := externaltest.NewFakeVault()
	kept.Allow(opening, "kv/data/agents/")
	kept.Put("kv/agents/echo", map[string]any{"key": first})
	service := &taking{good: first}
	b.signIn(url, tokenOf(t, team, control.RoleAdmin))
	page := url + "/console/#/t/" + team.Name + "/vaults/v"
	b.do(chromedp.Navigate(page))
	b.press("Add a source")
	b.enter("Name", "team")
	b.enter("Settings", "address="+plane.ServeLocalhost(t, kept)+"\nprefix=kv/data/agents/")
	b.enter("What opens it", opening)
	b.press("Add it")
	b.see("The source team is added.")
	b.see("prefix=kv/data/agents/")
	b.closed()
	b.nowhere("added", opening)

	b.press("Store a credential")
	b.enter("Name", "echo")
	b.enter("Hosts", service.serve(t))
	b.enter("Or where it lies", "team:kv/data/agents/none#key")
	b.press("Store it")
	b.see("has nothing at kv/data/agents/none")
	b.eval(`[...document.querySelectorAll("dialog input")].find((e) => e.name === "from").value = ""`)
	b.enter("Or where it lies", "team:kv/data/agents/echo#key")
	b.press("Store it")
	b.see("The credential echo is stored.")
	b.closed()
	b.shoot("sources")
	b.press("echo")
	b.see("team:kv/data/agents/echo#key, there version 1")
	b.tested("accepted", "1")
	if found := b.eval(`[...document.querySelectorAll("button")].some((e) => e.innerText === "Rotate")`); found != "false" {
		t.Error("what lies in a source can be rotated here")
	}
	kept.Put("kv/agents/echo", map[string]any{"key": second})
	service.take(second)
	b.press("Read it anew")
	b.press("Read it")
	b.see("echo is now version 2: 0 of 0 connected sandboxes use it")
	b.see("there version 2")
	b.tested("accepted", "2")

	b.press("v")
	b.see("Sources")
	b.press("Rotate")
	b.enter("What opens it now", other)
	b.press("Rotate")
	b.see("team is now opened by version 2.")
	b.closed()
	b.nowhere("rotated", other)
	b.press("Remove")
	b.press("Remove it")
	b.see("have their secrets in the source v/team (echo): remove them first")
	b.press("Cancel")
	b.closed()
	team.Must(t, "DELETE", "vaults/v/credentials/echo", nil, nil)
	b.press("Remove")
	b.press("Remove it")
	b.see("The source team is removed.")
	for _, secret := range []string{opening, other, first, second} {
		b.nowhere("in the end", secret)
	}
	if all, _, err := plane.Store.Sources(t.Context(), team.ID, "v", store.Page{}); err != nil || len(all) != 0 {
		t.Errorf("the sources are %v, %v", all, err)
	}
}
