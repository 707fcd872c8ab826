package console_test

import (
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/chromedp/chromedp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/store"
)

// hostile texts are an agent's, or an admin's of another mind.
const (
	markup   = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`
	steering = "/pay\u202etxt.exe\u2066\u200b\x1b[31m"
)

// hostileText is shown as text, with what would steer it escaped, and runs nothing.
func hostileText(t *testing.T, b *tab, url string) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_0123456789")
	team.Must(t, "POST", "vaults/v/credentials", map[string]any{
		"name": "odd", "hosts": []string{"odd.example.com"}, "secret": "0123456789abcdef", "auth": "oauth_client",
		"settings": map[string]string{"token_url": "https://t.example.com", "client_id": markup, "scope": "x\u202ey"}, "inject": []string{"header:X-Key: <b>{{token}}</b>"},
	}, nil)
	s := team.Join(t)
	_, err := s.Client.Report(t.Context(), connect.NewRequest(&api.ReportRequest{Events: []*api.Event{
		{Sequence: 1, Time: timestamppb.Now(), RequestId: "r1", Host: markup, Port: 443, Method: "<b>", Path: markup, Decision: "refuse", Reason: "<i>", Protocol: markup},
		{Sequence: 2, Time: timestamppb.Now(), RequestId: "r2", Host: "h", Port: 443, Method: "GET", Path: steering, Decision: "inspect", Protocol: "HTTP/1.1"},
	}}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plane.Store.AskApproval(t.Context(), store.Question{
		TeamID: team.ID, SandboxID: s.ID, CredentialID: limited(t, team, c), Version: 1, Host: "api.stripe.com", Port: 443, Method: "POST", Path: "/v1/\u0430dmin" + markup + steering, Request: "r",
	}); err != nil {
		t.Fatal(err)
	}
	b.signIn(url, tokenOf(t, team, control.RoleOwner))
	for _, page := range []string{"overview", "audit", "vaults", "vaults/v", "vaults/v/odd", "approvals", "sandboxes", "agents/a"} {
		b.do(chromedp.Navigate(url + "/console/#/t/" + team.Name + "/" + page))
		b.until("the page "+page, `document.querySelector("main h1")?.innerText !== "" && location.hash.endsWith("/`+page+`")`)
		switch page {
		case "audit":
			b.see(markup)
			b.see(`/pay\u202etxt.exe\u2066\u200b`)
		case "vaults/v/odd":
			b.see(markup)
			b.see(`x\u202ey`)
			b.see("<b>{{token}}</b>")
		case "approvals":
			b.see(`/v1/\u0430dmin<img`)
			b.shoot("hostile")
		}
		if found := b.eval(`document.querySelectorAll("main script, main img, main b, main i, main [onerror]").length`); found != "0" {
			t.Errorf("%s: %s elements were made of text", page, found)
		}
		if raw := b.eval(`/[\u202a-\u202e\u2066-\u2069\u200b\x1b]/.test(document.documentElement.outerHTML)`); raw != "false" {
			t.Errorf("%s: what steers text is on the page", page)
		}
		if title := b.eval("document.title"); strings.Contains(title, "owned") {
			t.Errorf("%s: a script has run", page)
		}
	}
	// What would be markup, by the names in the address.
	b.do(chromedp.Navigate(url + "/console/#/t/" + "%3Cimg%20src=x%20onerror=alert(1)%3E/overview"))
	b.see("Not found")
}
