package console_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"sallyport/control"
	"sallyport/control/controltest"
)

// forms tell what can't be right at its field, keep what went wrong in sight, and lose
// nothing that was not saved without saying so.
func forms(t *testing.T, b *tab, url string) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_0123456789")
	b.signIn(url, tokenOf(t, team, control.RoleAdmin))
	at := url + "/console/#/t/" + team.Name
	b.do(chromedp.Navigate(at + "/vaults/v"))
	b.press("Store a credential")
	b.enter("Name", "Not A Name")
	b.enter("Secret", "a-secret-that-was-typed-01")
	b.press("Limits")
	b.enter("Rate", "60")
	b.press("Limits") // closed again, which hides the rate
	b.press("Store it")
	b.until("the name pointed at", `document.activeElement === document.querySelector("dialog [name=name]") && document.activeElement.validity.patternMismatch`)
	b.eval(`document.querySelector("dialog [name=name]").value = "a-name"`)
	b.press("Store it")
	b.until("the rate pointed at", `document.activeElement === document.querySelector("dialog [name=rate]") && document.activeElement.checkVisibility()`)
	b.eval(`document.querySelector("dialog [name=rate]").value = ""`)
	b.enter("Hosts", "https://api.example.com/v1")
	b.press("Store it")
	b.see("without https://")
	const inSight = `(() => { const r = document.querySelector("dialog .wrong").getBoundingClientRect(); return r.height > 0 && r.top >= 0 && r.bottom <= innerHeight; })()`
	b.until("what went wrong in sight", inSight)
	b.press("Cancel")
	b.closed()

	b.do(chromedp.Navigate(at + "/agents/a"))
	b.until("the policy as it is", `[...document.querySelectorAll("main button")].some((e) => e.innerText === "Save the policy" && e.disabled)`)
	b.press("Add a rule")
	b.see("Not saved yet.")
	b.enter("Hosts", "pypi.org")
	b.press("Save the policy")
	b.see("The policy is changed, in running sandboxes too.")
	b.until("the policy as it is", `document.querySelector("main [aria-label=Hosts]")?.value === "pypi.org" && !document.body.innerText.includes("Not saved yet.")`)

	b.press("Unpin")
	b.see("Unpin v?")
	b.press("Cancel")
	b.closed()
	var pinned struct{ Vaults []string }
	team.Must(t, "GET", "agents/a", nil, &pinned)
	if len(pinned.Vaults) != 1 {
		t.Errorf("cancelled, the agent has the vaults %v", pinned.Vaults)
	}
	b.press("Unpin")
	b.press("Unpin it")
	b.see("It uses no credential yet.")
}

// foundAgain: what a page is narrowed to is in its address, for whoever comes back or is
// sent there, and each page has a title of its own.
func foundAgain(t *testing.T, b *tab, url string) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_0123456789")
	team.Must(t, "POST", "vaults", map[string]any{"name": "w"}, nil)
	team.Must(t, "POST", "vaults/w/credentials", map[string]any{"name": "other", "hosts": []string{"other.example.com"}, "secret": "0123456789abcdef"}, nil)
	team.Join(t)
	b.signIn(url, tokenOf(t, team, control.RoleAdmin))
	at := url + "/console/#/t/" + team.Name
	b.do(chromedp.Navigate(at + "/agents/a"))
	b.press("What it did: its audit events")
	narrowed := `document.querySelector("#events tr") && [...document.querySelectorAll("#events tr")].every((r) => r.cells[2].innerText.includes("a")) && document.querySelector("[name=agent]").value === "a"`
	b.until("the agent's events", narrowed)
	b.enter("Decision", "refuse")
	b.press("Show")
	b.see("No event fits.")
	if hash := b.eval("location.hash"); hash != "#/t/"+team.Name+"/audit?agent=a&decision=refuse&since=86400" {
		t.Errorf("the address is %s", hash)
	}
	b.do(chromedp.Reload())
	b.see("No event fits.")
	b.do(chromedp.NavigateBack())
	b.until("the agent", `document.querySelector("h1")?.innerText === "a"`)
	if title := b.eval("document.title"); title != "a · "+team.Name+" · Sallyport" {
		t.Errorf("the title is %q", title)
	}

	b.goTo("c", "Credentials")
	b.see("other.example.com")
	b.enter("Filter credentials", "stripe")
	b.see("1 of 2")
	b.do(chromedp.Navigate(at + "/credentials?due"))
	b.see("0 of 2")
	b.press("Due to be rotated")
	b.press("other")
	b.see("vault:other")
}

// longLists are shown in parts, and the filter is of what is shown.
func longLists(t *testing.T, b *tab, url string) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_0123456789")
	for range 5 {
		team.Must(t, "POST", "agents/a/sandboxes", nil, nil)
	}
	// A thousand are a part; two are enough to try it.
	const two = `const ask = fetch; fetch = (url, options) => ask(url.replace("limit=1000", "limit=2"), options)`
	if _, err := chromedp.Call(b.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: two}); err != nil {
		t.Fatal(err)
	}
	b.signIn(url, tokenOf(t, team, control.RoleViewer))
	b.goTo("s", "Sandboxes")
	rows := func(n int, rest bool) {
		t.Helper()
		b.until(fmt.Sprintf("%d rows", n), fmt.Sprintf(`document.querySelectorAll("tbody tr").length === %d && (document.querySelector(".rest") !== null) === %t`, n, rest))
	}
	rows(2, true)
	b.enter("Filter sandboxes", "pending")
	b.see("2 of 2")
	b.press("Show more")
	rows(4, true)
	b.see("4 of 4")
	b.press("Show more")
	rows(5, false)
	b.see("5 of 5")
}

// contrast finds text that is harder to read than WCAG 2.2's level AA allows (1.4.3), and
// edges of fields that are harder to see (1.4.11).
const contrast = `(() => {
	const pixel = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
	const rgba = (color) => { pixel.clearRect(0, 0, 1, 1); pixel.fillStyle = color; pixel.fillRect(0, 0, 1, 1); return [...pixel.getImageData(0, 0, 1, 1).data]; };
	const light = (c) => [.2126, .7152, .0722].reduce((sum, share, i) => { const v = c[i] / 255; return sum + share * (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); }, 0);
	const over = (front, back) => back.map((v, i) => front[i] * front[3] / 255 + v * (1 - front[3] / 255));
	const behind = (e) => e ? over(rgba(getComputedStyle(e).backgroundColor), behind(e.parentElement)) : rgba(getComputedStyle(document.body).backgroundColor).slice(0, 3);
	const ratio = (a, b) => { const [low, high] = [light(a), light(b)].sort((x, y) => x - y); return (high + .05) / (low + .05); };
	const found = new Set();
	for (const e of document.querySelectorAll("body *")) {
		if (!e.checkVisibility() || e.disabled || e.closest(".hidden, .skip, noscript")) continue;
		const style = getComputedStyle(e), back = behind(e), field = e.matches("input:not([type=checkbox]), select, textarea");
		const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
		const check = (what, color, least) => { const r = ratio(over(rgba(color), back), back); if (r < least) found.add(what + " " + e.tagName + "." + e.className + " " + r.toFixed(2)); };
		if (field || [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) check("text", style.color, large ? 3 : 4.5);
		if (field && e.placeholder) check("placeholder", getComputedStyle(e, "::placeholder").color, 4.5);
		if (field) { const r = ratio(rgba(style.borderTopColor), behind(e.parentElement)); if (r < 3) found.add("edge " + e.tagName + " " + r.toFixed(2)); }
	}
	return [...found].join("; ");
})()`

// legible fails the test where something can't be read, in light or in dark.
func (b *tab) legible(page string) {
	b.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
		if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, media); err != nil {
			b.t.Fatal(err)
		}
		if found := b.eval(contrast); found != "" {
			b.t.Errorf("%s, %s: %s", page, scheme, found)
		}
	}
}

// populated is a team with something on each page.
func populated(t *testing.T) *controltest.Team {
	t.Helper()
	team := plane.NewTeam(t)
	limited(t, team, team.Setup(t, "sk_live_0123456789"))
	addSource(t, team)
	team.Must(t, "POST", "vaults/v/credentials/stripe/rotate", map[string]any{"secret": "sk_live_9876543210", "overlap": "10m"}, nil)
	team.Must(t, "PUT", "agents/a/policy", map[string]any{"default": "deny", "rules": []any{map[string]any{"action": "inspect", "hosts": []string{"pypi.org"}}}}, nil)
	team.Join(t)
	tokenOf(t, team, control.RoleMember)
	return team
}

// errorPages say what is not there and where to go on; the page before stays in the history.
func errorPages(t *testing.T, b *tab, url string) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_0123456789")
	b.signIn(url, tokenOf(t, team, control.RoleViewer))
	for page, list := range map[string]string{"vaults/none": "Vaults", "vaults/v/none": "Vaults", "agents/none": "Agents"} {
		b.do(chromedp.Navigate(url + "/console/#/t/" + team.Name + "/" + page))
		b.see(`there is no`)
		if said := b.eval(`document.querySelector("h1").innerText + ": " + document.title`); said != fmt.Sprintf("Not found: Not found · %s · Sallyport", team.Name) {
			t.Errorf("%s: %s", page, said)
		}
		b.do(chromedp.Click(chromedp.CSS("main .crumbs a")))
		b.until("the list "+list, `document.querySelector("h1").innerText === `+quoted(list))
	}
	b.eval(`(() => { const ask = fetch; fetch = () => Promise.reject(new TypeError()); again = () => { fetch = ask; }; })()`)
	b.goTo("s", "That did not work")
	b.see("the control plane does not answer")
	b.eval(`again()`)
	b.press("Try again")
	b.until("the sandboxes", `document.querySelector("h1").innerText === "Sandboxes"`)
}
