package console_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	cdp "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"sallyport/control"
)

// exported: a browser saves the audit log as it comes, what it is asked for with is in no
// address, and the page stays.
func exported(t *testing.T, b *tab, url string) {
	team, events := exporting(t)
	b.signIn(url, tokenOf(t, team, control.RoleViewer))
	about, err := chromedp.Call(b.ctx, target.GetTargetInfo, target.GetTargetInfoParams{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := chromedp.Call(b.ctx, cdp.SetDownloadBehavior, cdp.SetDownloadBehaviorParams{
		Behavior: cdp.SetDownloadBehaviorBehaviorAllow, BrowserContextID: about.TargetInfo.BrowserContextID, DownloadPath: dir,
	}); err != nil {
		t.Fatal(err)
	}
	half := b.eval(`localStorage.getItem("sallyport.session")`)
	b.goTo("u", "Audit")
	b.press("Export")
	b.see("The browser saves it")
	var lines int
	b.wait("the file", func() bool {
		files, err := filepath.Glob(filepath.Join(dir, "sallyport-audit-"+team.Name+"-*.jsonl"))
		if err != nil || len(files) != 1 {
			return false
		}
		text, err := os.ReadFile(files[0])
		lines = strings.Count(string(text), "\n")
		return err == nil && lines >= events
	})
	if at := b.eval("location.href"); at != url+"/console/#/t/"+team.Name+"/audit" || b.eval(`document.querySelector("form[method=post]")`) != "null" {
		t.Errorf("the page is at %s", at)
	}
	b.historyHasNot(half)
	b.enter("Host", "none.example.com")
	b.press("Export")
	b.see("There is no event to export.")
	b.shoot("exported")
}

// ended: whoever has a token sees the browsers that are signed in with it, and ends one,
// and this one.
func ended(t *testing.T, b *tab, url string) {
	team := plane.NewTeam(t)
	token := tokenOf(t, team, control.RoleMember)
	elsewhere, half := signIn(t, url, token)
	b.signIn(url, token)
	b.goTo("e", "Sessions")
	b.see("The browsers that signed in with your token.")
	b.see("this browser")
	b.shoot("sessions")
	b.eval(`[...document.querySelectorAll("tbody tr")].find((row) => !row.innerText.includes("this browser")).querySelector("button").click()`)
	b.press("End it")
	b.see("The session is ended.")
	b.until("one session", `document.querySelectorAll("tbody tr").length === 1`)
	if r := ask(t, "GET", url+"/console/v1/info", "", browser{cookie: elsewhere.cookie, header: ofPage(half)}); r.Status != 401 {
		t.Errorf("the one that was ended: %d", r.Status)
	}
	b.press("End")
	b.see("That is this browser.")
	b.press("End it")
	b.see("Your session is over.")
	b.see("API token")
}
