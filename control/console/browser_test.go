package console_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

var shots = flag.String("shots", "", "keep screenshots of the browser tests in this directory")

// patience bounds a wait for what the page must show.
const patience = 20 * time.Second

// chromium starts the one browser of all tests here.
func chromium(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium-headless-shell"), chromedp.NoSandbox, chromedp.WindowSize(1280, 860),
		chromedp.Flag("ignore-certificate-errors-spki-list", testKey()))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	browser, end := chromedp.NewContext(allocator)
	t.Cleanup(end)
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("start chromium (scripts/setup test installs it): %v", err)
	}
	return browser
}

// testKey is the one of this machine's test servers, which the browser trusts in the place
// of a CA: the SHA-256 of it.
func testKey() string {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	sum := sha256.Sum256(server.Certificate().RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// tab is a page with cookies and storage of its own.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	faults []string // violations of the policy, exceptions, errors that scripts log
}

// watching has the page tell of what its policy refused.
const watching = `addEventListener("securitypolicyviolation", (e) => console.error("violation: " + e.violatedDirective + " " + e.blockedURI + " " + e.sample))`

func newTab(t *testing.T, browser context.Context) *tab {
	t.Helper()
	ctx, end := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(end)
	b := &tab{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watching}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the page is at %s:\n%s", b.eval("location.href"), b.eval("document.body.innerText"))
			b.shoot("failed-" + strings.ReplaceAll(t.Name(), "/", "-"))
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, fault := range b.faults {
			t.Errorf("the page: %s", fault)
		}
	})
	return b
}

// hear notes what a page that is well never says.
func (b *tab) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			b.faults = append(b.faults, string(e.Args[0].Value))
		}
	case *runtime.EventExceptionThrown:
		b.faults = append(b.faults, fmt.Sprintf("%s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork { // the network's are answers such as 401
			b.faults = append(b.faults, e.Entry.Text)
		}
	case *page.EventJavascriptDialogOpening:
		b.faults = append(b.faults, "a dialog: "+e.Message)
	}
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// eval gives what a script says, as text. The page's policy is not about the debugger.
func (b *tab) eval(script string) string {
	b.t.Helper()
	said, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`String(`+script+`)`))
	if err != nil {
		b.t.Errorf("%s: %v", script, err)
	}
	return said
}

// until waits for a script to say true.
func (b *tab) until(what, script string) {
	b.t.Helper()
	b.wait(what, func() bool {
		said, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](script))
		return err == nil && said
	})
}

// wait waits until done says so.
func (b *tab) wait(what string, done func() bool) {
	b.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	b.t.Fatalf("waited in vain for %s", what)
}

func quoted(text string) string {
	q, _ := json.Marshal(text)
	return string(q)
}

// see waits for a text to be on the page.
func (b *tab) see(text string) {
	b.t.Helper()
	b.until(fmt.Sprintf("%q", text), `document.body.innerText.includes(`+quoted(text)+`)`)
}

// closed waits until no dialog is left.
func (b *tab) closed() {
	b.t.Helper()
	b.until("no dialog", `document.querySelector("dialog") === null`)
}

// within is where a person looks: the dialog, if there is one.
const within = `(document.querySelector("dialog[open]") || document)`

// press clicks on a button, link or switch with that text.
func (b *tab) press(text string) {
	b.t.Helper()
	b.until("the button "+text, `(() => {
		const found = [...`+within+`.querySelectorAll("button, a, summary, .switch")].filter((e) => e.innerText.trim() === `+quoted(text)+` && !e.disabled && e.getClientRects().length > 0);
		for (const e of document.querySelectorAll("[data-test]")) delete e.dataset.test;
		if (found.length > 0) found[0].dataset.test = "press";
		return found.length > 0;
	})()`)
	b.do(chromedp.Click(chromedp.CSS(`[data-test=press]`)))
}

// enter types a text into the field with that label.
func (b *tab) enter(label, text string) {
	b.t.Helper()
	b.until("the field "+label, `(() => {
		const named = [...`+within+`.querySelectorAll("input, textarea, select")].filter((e) => (e.labels?.[0]?.innerText.trim() || e.getAttribute("aria-label")) === `+quoted(label)+`);
		for (const e of document.querySelectorAll("[data-test]")) delete e.dataset.test;
		if (named.length > 0) named[0].dataset.test = "enter";
		return named.length > 0;
	})()`)
	if b.eval(`document.querySelector("[data-test=enter]").tagName`) == "SELECT" {
		b.eval(`(() => { const s = document.querySelector("[data-test=enter]"); s.value = ` + quoted(text) + `; s.dispatchEvent(new Event("change", {bubbles: true})); })()`)
		return
	}
	b.do(chromedp.SendKeys(chromedp.CSS(`[data-test=enter]`), text))
}

// goTo uses the console's keys: g, then a letter.
func (b *tab) goTo(letter, title string) {
	b.t.Helper()
	b.closed()
	b.do(chromedp.KeyEvent("g"), chromedp.KeyEvent(letter))
	b.until("the page "+title, `document.querySelector("h1")?.innerText === `+quoted(title))
}

func (b *tab) signIn(url, token string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url + "/console/"))
	b.enter("API token", token)
	b.press("Sign in")
	b.until("the console", `document.querySelector("nav") !== null && document.querySelector("main h1") !== null`)
}

// nowhere fails the test where a value can be read by whoever has this browser next: on
// the page, in fields, in storage, in the address or the history.
func (b *tab) nowhere(what, value string) {
	b.t.Helper()
	held := b.eval(`JSON.stringify([
		document.documentElement.outerHTML, [...document.querySelectorAll("input, textarea")].map((e) => e.value),
		{...localStorage}, {...sessionStorage}, location.href, document.cookie, history.state, window.name, document.title,
		performance.getEntries().map((e) => e.name)])`)
	if strings.Contains(held, value) {
		b.t.Errorf("%s: the secret is in %.2000s", what, held)
	}
	b.historyHasNot(value)
}

// historyHasNot fails the test where a value is in an address that the browser remembers.
func (b *tab) historyHasNot(value string) {
	b.t.Helper()
	history, err := chromedp.Run(b.ctx, chromedp.NavigationEntries())
	if err != nil {
		b.t.Error(err)
	}
	for _, e := range history.Entries {
		if strings.Contains(e.URL+e.Title, value) {
			b.t.Errorf("the secret is in the history: %s", e.URL)
		}
	}
}

// shoot keeps a screenshot, in light and dark and on a narrow screen, if that is wanted.
func (b *tab) shoot(name string) {
	if *shots == "" {
		return
	}
	for _, view := range []struct {
		name, scheme  string
		width, height int64
	}{{"light", "light", 1280, 860}, {"dark", "dark", 1280, 860}, {"narrow", "light", 400, 860}} {
		scheme := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: view.scheme}}}
		if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, scheme); err != nil {
			b.t.Log(err)
		}
		b.do(chromedp.EmulateViewport(view.width, view.height), chromedp.Sleep(100*time.Millisecond))
		png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
		if err == nil {
			err = os.WriteFile(filepath.Join(*shots, name+"-"+view.name+".png"), png, 0o600)
		}
		if err != nil {
			b.t.Log(err)
		}
	}
	b.do(chromedp.EmulateViewport(1280, 860))
}
