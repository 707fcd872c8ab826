package console_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/controltest"
	"sallyport/control/store"
)

// TestBrowser does in a browser what admins do. One chromium serves all cases.
func TestBrowser(t *testing.T) {
	browser := chromium(t)
	for name, test := range map[string]func(*testing.T, *tab, string){
		"journey": journey, "secrets": secrets, "hostile text": hostileText, "approval": approval, "roles": roles, "people": people, "access": accessible, "rotation": rotation, "sources": sources, "allowing": allowing, "not allowed": notAllowed, "exported": exported, "ended": ended, "forms": forms, "found again": foundAgain, "long lists": longLists, "errors": errorPages,
	} {
		t.Run(name, func(t *testing.T) {
			url := served(t) // ends after the tab, which may be waiting for an answer
			test(t, newTab(t, browser), url)
		})
	}
}

// tokenOf makes an API token of the team.
func tokenOf(t *testing.T, team *controltest.Team, role control.Role) string {
	t.Helper()
	var token struct{ Value string }
	team.Must(t, "POST", "tokens", map[string]any{"name": "console-" + store.NewID(), "role": role}, &token)
	return token.Value
}

// journey: sign in, make a vault, store a credential, pin it, rotate it, see it all in
// the audit log as it happens, sign out.
func journey(t *testing.T, b *tab, url string) {
	team := plane.NewTeam(t)
	b.do(chromedp.Navigate(url + "/console/"))
	b.enter("API token", "sp_wrong")
	b.press("Sign in")
	b.see("unknown or has expired")
	b.shoot("signin")
	token := tokenOf(t, team, control.RoleOwner)
	b.signIn(url, token)
	b.nowhere("signed in", token)
	b.nowhere("signed in", token[3:])
	b.checkCookies(url)
	b.see("Begin here")

	b.goTo("v", "Vaults")
	b.press("New vault")
	b.enter("Name", "payments")
	b.press("Make it")
	b.see("Pinned to no agent yet.")
	b.press("Store a credential")
	b.enter("Name", "mine")
	b.enter("Hosts", "api.example.com")
	b.enter("Secret", "a-secret-that-was-typed-01")
	b.shoot("store")
	b.press("Limits")
	b.enter("Rate", "60/min")
	b.press("Store it")
	b.see("The credential mine is stored.")
	b.see("60/min")

	b.goTo("a", "Agents")
	b.press("New agent")
	b.enter("Name", "a")
	b.press("Make it")
	b.see("It uses no credential yet.")
	b.enter("Vault to pin", "payments")
	b.press("Pin")
	b.see("payments is pinned.")
	b.see("Unpin")
	b.enter("URL", "https://api.example.com/v1")
	b.press("Explain")
	b.see("without what explains") // as this control plane is, so it says why not
	sidecar := team.Join(t)
	connected, drop := context.WithCancel(t.Context())
	defer drop()
	acknowledge(t, sidecar, connected)
	b.shoot("agent")

	b.goTo("v", "Vaults")
	b.press("payments")
	b.press("mine")
	b.see("vault:mine")
	b.shoot("credential")
	b.press("Rotate")
	b.enter("New secret", "a-secret-that-was-typed-02")
	b.press("Rotate")
	b.see("mine is now version 2: 1 of 1 connected sandboxes use it")
	for _, secret := range []string{"a-secret-that-was-typed-01", "a-secret-that-was-typed-02"} {
		b.nowhere("stored and rotated", secret)
	}
	b.goTo("s", "Sandboxes")
	b.see("connected")
	b.shoot("sandboxes")

	b.goTo("u", "Audit")
	b.see("credential.rotate")
	b.do(chromedp.Click(chromedp.CSS("#live")))
	b.until("following", `document.getElementById("live").dataset.following === "true"`)
	team.Must(t, "POST", "agents", map[string]any{"name": "made-meanwhile"}, nil)
	b.see("made-meanwhile")
	b.press("Verify")
	b.see("intact")
	b.shoot("audit")
	b.enter("Host", "none.example.com")
	b.do(chromedp.Click(chromedp.CSS("#live")))
	b.press("Show")
	b.goTo("q", "Settings of "+team.Name)
	b.see("fetches")
	b.shoot("settings")
	b.goTo("t", "API tokens of "+team.Name)
	b.press("New token")
	b.enter("Name", "ci")
	b.press("Make it")
	b.see("Nobody sees it again.")
	value := b.eval(`document.querySelector("dialog textarea").value`)
	if !strings.HasPrefix(value, "sp_") {
		t.Errorf("the new token is %q", value)
	}
	b.shoot("token")
	b.press("Done")
	b.closed()
	b.nowhere("after the dialog", value)
	b.goTo("o", team.Name)
	b.shoot("overview")

	b.press("Sign out")
	b.see("API token")
	if half := b.eval(`localStorage.getItem("sallyport.session")`); half != "null" {
		t.Errorf("signed out, the page still has %s", half)
	}
	b.do(chromedp.NavigateBack())
	b.see("API token")
}

// acknowledge has a sidecar hold its stream, and say of each revision that it is in place.
func acknowledge(t *testing.T, s *controltest.Sidecar, ctx context.Context) {
	t.Helper()
	w := s.Client.Watch(ctx)
	if err := w.Send(&api.WatchRequest{}); err != nil {
		t.Fatal(err)
	}
	first := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for first := first; ; first = nil {
			r, err := w.Receive()
			if err != nil {
				return
			}
			if w.Send(&api.WatchRequest{AppliedRevision: r.GetRevision()}) != nil {
				return
			}
			if first != nil {
				close(first)
			}
		}
	}()
	t.Cleanup(func() {
		w.CloseRequest()
		w.CloseResponse()
		<-done
	})
	select {
	case <-first:
	case <-time.After(patience):
		t.Fatal("the sidecar got no bindings")
	}
}

// checkCookies: there is one, and no script can read it.
func (b *tab) checkCookies(url string) {
	b.t.Helper()
	kept, err := chromedp.Call(b.ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{url}})
	if err != nil {
		b.t.Fatal(err)
	}
	if c := kept.Cookies; len(c) != 1 || c[0].Name != "__Host-sallyport" || !c[0].HTTPOnly || !c[0].Secure || c[0].SameSite != network.CookieSameSiteStrict || !c[0].Session {
		b.t.Errorf("the cookies are %+v", c)
	}
	if read := b.eval("document.cookie"); read != "" {
		b.t.Errorf("scripts read the cookie %s", read)
	}
}

// secrets: one that was typed is nowhere once its form is left, in whatever way.
func secrets(t *testing.T, b *tab, url string) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_0123456789")
	b.signIn(url, tokenOf(t, team, control.RoleAdmin))
	const typed = "s3cret-in-a-form"
	here := url + "/console/#/t/" + team.Name + "/vaults/v/stripe"
	open := func() {
		t.Helper()
		b.do(chromedp.Navigate(here))
		b.press("Rotate")
		b.enter("New secret", typed)
		if held := b.eval(`document.querySelector("dialog textarea").value`); held != typed {
			t.Fatalf("typed, the field has %q", held)
		}
	}
	open()
	for _, attribute := range []string{"autocomplete", "spellcheck", "autocapitalize"} {
		want := map[string]string{"autocomplete": "off", "spellcheck": "false", "autocapitalize": "off"}[attribute]
		if got := b.eval(`document.querySelector("dialog textarea").getAttribute("` + attribute + `")`); got != want {
			t.Errorf("%s is %q", attribute, got)
		}
	}
	if hidden := b.eval(`getComputedStyle(document.querySelector("dialog textarea")).webkitTextSecurity`); hidden != "disc" {
		t.Errorf("the secret is shown: %s", hidden)
	}
	b.press("Cancel")
	b.closed()
	b.nowhere("cancelled", typed)

	open()
	b.do(chromedp.KeyEvent("\x1b"))
	b.closed()
	b.nowhere("escaped", typed)

	// Left for another page, and back by the history, from the browser's cache or not.
	open()
	b.do(chromedp.Navigate(url+"/healthz"), chromedp.NavigateBack())
	b.until("the page again", `document.querySelector("main h1") !== null`)
	b.nowhere("left and come back", typed)

	open()
	b.do(chromedp.Reload())
	b.until("the page again", `document.querySelector("main h1") !== null`)
	b.nowhere("loaded again", typed)

	// Refused by the API, it stays in the form, and goes with it.
	open()
	team.Must(t, "DELETE", "vaults/v/credentials/stripe", nil, nil)
	b.press("Rotate")
	b.see("there is no")
	b.press("Cancel")
	b.closed()
	b.nowhere("refused", typed)
	for _, half := range []string{"sallyport.session", "sallyport.team"} {
		b.eval(`localStorage.removeItem("` + half + `")`)
	}
	if left := b.eval(`JSON.stringify([{...localStorage}, {...sessionStorage}])`); left != `[{},{}]` {
		t.Errorf("the page also keeps %s", left)
	}
}

// roles: a viewer sees no button that would be refused.
func roles(t *testing.T, b *tab, url string) {
	team := plane.NewTeam(t)
	id := limited(t, team, team.Setup(t, "sk_live_0123456789"))
	addSource(t, team)
	team.Must(t, "POST", "vaults/v/credentials/stripe/rotate", map[string]any{"secret": "sk_live_9876543210", "overlap": "10m"}, nil)
	s := team.Join(t)
	if _, err := plane.Store.AskApproval(t.Context(), store.Question{
		TeamID: team.ID, SandboxID: s.ID, CredentialID: id, Version: 2, Host: "api.stripe.com", Port: 443, Method: "POST", Path: "/x", Request: "r",
	}); err != nil {
		t.Fatal(err)
	}
	b.signIn(url, tokenOf(t, team, control.RoleViewer))
	for _, page := range []string{"overview", "vaults", "vaults/v", "vaults/v/stripe", "agents", "agents/a", "sandboxes", "approvals", "settings"} {
		b.do(chromedp.Navigate(url + "/console/#/t/" + team.Name + "/" + page))
		b.until("the page "+page, `document.querySelector("nav a[aria-current]") !== null && document.querySelector("main h1") !== null && location.hash.endsWith("/`+page+`")`)
		if buttons := b.eval(`[...document.querySelectorAll("main button")].map((e) => e.innerText).filter((text) => !["Explain", "Refresh"].includes(text)).join()`); buttons != "" {
			t.Errorf("%s: a viewer has the buttons %s", page, buttons)
		}
	}
	if menu := b.eval(`document.querySelector("nav").innerText`); strings.Contains(menu, "Tokens") {
		t.Errorf("a viewer's menu: %s", menu)
	}
}

// accessible: every field and button has a name, all can be read in light and in dark,
// dialogs take the focus and give it back, and no page is wider than a phone.
func accessible(t *testing.T, b *tab, url string) {
	team := populated(t)
	b.do(chromedp.Navigate(url + "/console/"))
	b.see("API token")
	b.legible("the way in")
	b.signIn(url, plane.Owner)
	const nameless = `[...document.querySelectorAll("input, select, textarea, button, a")].filter((e) =>
		e.type !== "file" && !(e.labels?.length || e.getAttribute("aria-label") || e.innerText?.trim())).map((e) => e.outerHTML).join()`
	for _, page := range []string{"overview", "approvals", "vaults", "vaults/v", "vaults/v/stripe", "vaults/none", "credentials", "agents", "agents/a", "sandboxes", "audit", "tokens", "settings", "../../teams", "../../sessions", "../../system"} {
		place := "#/t/" + team.Name + "/" + page
		if rest, found := strings.CutPrefix(page, "../../"); found {
			place = "#/" + rest
		}
		b.do(chromedp.Navigate(url + "/console/" + place))
		b.until("the page "+page, `document.querySelectorAll("h1").length === 1 && document.activeElement?.tagName === "H1" && !document.querySelector("[aria-busy]") && location.hash === `+quoted(place))
		b.legible(page)
		if found := b.eval(nameless); found != "" {
			t.Errorf("%s: without a name: %s", page, found)
		}
		b.do(chromedp.EmulateViewport(380, 800))
		if wide := b.eval(`document.documentElement.scrollWidth`); wide != "380" {
			t.Errorf("%s: on a phone it is %s wide", page, wide)
		}
		b.do(chromedp.EmulateViewport(1280, 860))
	}
	b.shoot("system")
	b.do(chromedp.Navigate(url + "/console/#/t/" + team.Name + "/vaults/v"))
	b.press("Store a credential")
	b.until("the focus in the dialog", `document.querySelector("dialog").contains(document.activeElement)`)
	if found := b.eval(nameless); found != "" {
		t.Errorf("in the dialog, without a name: %s", found)
	}
	b.press("How it is sent")
	b.legible("a form")
	// The measure itself: text that is nearly its background is found.
	b.eval(`document.querySelector("dialog h2").style.color = "color-mix(in srgb, currentcolor 15%, var(--front))"`)
	if b.eval(contrast) == "" {
		t.Error("illegible text is not found")
	}
	b.do(chromedp.KeyEvent("\x1b"))
	b.until("the focus back", `document.activeElement.innerText === "Store a credential"`)
	b.do(chromedp.KeyEvent("/"))
	b.until("the focus in the filter", `document.activeElement.type === "search"`)
	b.do(chromedp.KeyEvent("zzz"))
	b.until("no row", `[...document.querySelector("tbody").rows].every((r) => r.hidden)`)
}
