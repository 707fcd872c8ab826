package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/e2e"
)

// TestServerSentEvents: an event arrives before the next is sent, while the
// credential is searched for in all of them; so does an answer that was waited for.
func TestServerSentEvents(t *testing.T) {
	const soon = 500 * time.Millisecond // a second is what the redactor holds the unfinished for
	next, sent := make(chan struct{}), make(chan time.Time, 1)
	w := e2e.NewWorld(t, e2e.Race)
	ends(t, w, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("X-Protocol", r.Proto)
		if r.URL.Path == "/poll" {
			<-next
			sent <- time.Now()
			fmt.Fprintf(rw, "polled %s\n", r.Header.Get("Authorization"))
			return
		}
		rw.Header().Set("Content-Type", "text/event-stream")
		for i := range 5 {
			<-next
			sent <- time.Now()
			fmt.Fprintf(rw, "data: %d %s\n", i, r.Header.Get("Authorization"))
			if err := http.NewResponseController(rw).Flush(); err != nil {
				return
			}
		}
	}), func(t *testing.T, w *e2e.World, flag, url string) {
		masked := strings.Repeat("*", len("Bearer "+token))
		p := w.Start("agent", "sh", "-c", fmt.Sprintf("curl -sSN %[1]s %[2]sevents; curl -sS %[1]s %[2]spoll -w '%%{http_version} %%header{x-protocol}\\n'", flag, url))
		var slowest time.Duration
		receive := func(want string) {
			next <- struct{}{}
			line := p.Line()
			took := time.Since(<-sent)
			slowest = max(slowest, took)
			if !strings.HasPrefix(line, want) || strings.Contains(line, token) || !strings.HasSuffix(line, masked) && !strings.Contains(line, "Bearer ***") {
				t.Errorf("received %q, want %q and the masked credential", line, want)
			}
			if took > soon {
				t.Errorf("%q took %s", line, took)
			}
		}
		for i := range 5 {
			receive(fmt.Sprintf("data: %d ", i))
		}
		receive("polled ")
		t.Logf("the slowest took %s", slowest.Round(100*time.Microsecond))
		version, protocol := "1.1", "HTTP/1.1"
		if flag == "--http2" {
			version = "2"
		}
		if strings.HasPrefix(url, "https://two.") {
			protocol = "HTTP/2.0"
		}
		if got := p.Line(); got != version+" "+protocol {
			t.Errorf("client and upstream were spoken to in %q, want %q", got, version+" "+protocol)
		}
	})
}
