package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestMCPLoginInTheConsole: an admin connects an MCP server in a browser, by its URL and
// nothing else, and logs in for it there. Both servers are the official SDK's, and no token
// of theirs comes to the browser.
func TestMCPLoginInTheConsole(t *testing.T) {
	const mcp, login = mcpServer, mcpLogin
	w, server, address := newMCPWorld(t)

	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium-headless-shell"), chromedp.NoSandbox, chromedp.IgnoreCertErrors,
		chromedp.Flag("host-resolver-rules", "MAP "+login+" "+address))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	page, end := chromedp.NewContext(allocator)
	t.Cleanup(end)
	eval := func(script string) string {
		said, err := chromedp.Run(page, chromedp.Evaluate[string](`String(`+script+`)`))
		if err != nil {
			return err.Error() // as while it goes elsewhere
		}
		return said
	}
	quoted := func(text string) string {
		q, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(q)
	}
	see := func(text string) {
		t.Helper()
		w.Eventually("the page says "+text, func() bool { return eval(`document.body.innerText.includes(`+quoted(text)+`)`) == "true" })
	}
	press := func(text string) {
		t.Helper()
		w.Eventually("there is the button "+text, func() bool {
			return eval(fmt.Sprintf(`(() => {
				const found = [...(document.querySelector("dialog[open]") || document).querySelectorAll("button")].find((e) => e.innerText.trim() === %s && !e.disabled);
				found?.click();
				return Boolean(found);
			})()`, quoted(text))) == "true"
		})
	}
	enter := func(label, text string) {
		t.Helper()
		w.Eventually("there is the field "+label, func() bool {
			return eval(fmt.Sprintf(`(() => {
				const found = [...(document.querySelector("dialog[open]") || document).querySelectorAll("input, textarea")].find((e) => e.labels?.[0]?.innerText.trim() === %s);
				if (found) found.value = %s;
				return Boolean(found);
			})()`, quoted(label), quoted(text))) == "true"
		})
	}
	if err := chromedp.Do(page, chromedp.Navigate(w.Server+"/console/#/t/default/vaults/tools")); err != nil {
		t.Fatalf("start chromium (scripts/setup test installs it): %v", err)
	}
	enter("API token", w.AdminToken())
	press("Sign in")
	press("Connect an MCP server")
	enter("Name", "it")
	enter("URL of the server", "https://"+mcp+"/mcp")
	press("Find out who is asked")
	see("this browser never does")
	see("https://" + login + "/")
	press("Log in at " + login)
	see("it is now version 2, by what was just allowed.")
	held := eval(`JSON.stringify([document.documentElement.outerHTML, {...localStorage}, {...sessionStorage}, location.href, document.cookie])`)
	if !strings.Contains(held, "tools") || strings.Contains(held, "code=") || !strings.Contains(held, `{},"`+w.Server+`/console/#/t/default/vaults/tools/it"`) {
		t.Errorf("the browser holds %.2000s", held)
	}
	got := w.Run("agent", "node", w.Client("mcp-login-client.mjs"), "https://"+mcp+"/mcp")
	if !strings.HasPrefix(got, "mcp:tools for https://"+mcp+"/mcp, ") {
		t.Errorf("the server said %s", got)
	}
	given := regexp.MustCompile(`gave (\S+)`).FindAllStringSubmatch(server.Output(), -1)
	if len(given) != 4 {
		t.Errorf("the server gave %d tokens, not those of a login and a refresh", len(given))
	}
	for _, token := range given {
		if strings.Contains(held, token[1]) || strings.Contains(w.ControlLog(), token[1]) {
			t.Error("a token was shown")
		}
	}
	// The command line sees that its client comes back to the console.
	if r := w.TryCLI("", "credential", "login", "--no-browser", "tools/it"); r.Status != 1 || !strings.Contains(r.Stderr, "web console") {
		t.Errorf("by the command line: %+v", r)
	}
}
