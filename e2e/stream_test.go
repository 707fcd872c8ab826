package e2e_test

import (
	"encoding/json"
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
			fmt.Fprintf(rw, "data: %d %s\n\n", i, r.Header.Get("Authorization"))
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
			if end := p.Line(); end != "" {
				t.Errorf("an event ends with %q", end)
			}
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

// TestRevocationEndsWhatIsUnderWay has a response that never ends, and a request
// whose body never does, both with the credential, when the sandbox is removed.
func TestRevocationEndsWhatIsUnderWay(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	left := make(chan struct{}, 2)
	w.OriginServer(e2e.EchoHost, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		defer func() { left <- struct{}{} }()
		out := http.NewResponseController(rw)
		if err := out.EnableFullDuplex(); err != nil && r.ProtoMajor == 1 {
			t.Error(err)
		}
		for i := 0; r.Context().Err() == nil; i++ {
			if _, err := fmt.Fprintf(rw, "data: %d \n", i); err != nil || out.Flush() != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}))
	w.Pinned("agent", token, "--host", e2e.EchoHost, "--inject", "bearer")
	p := w.Start("agent", "sh", "-c", fmt.Sprintf("sleep 100 | curl -sSN -T - https://%[1]s/up & curl -sSN https://%[1]s/down", e2e.EchoHost))
	for range 10 {
		p.Line()
	}
	var sandboxes []struct{ ID string }
	if err := json.Unmarshal([]byte(w.CLI("-o", "json", "sandbox", "list")), &sandboxes); err != nil || len(sandboxes) != 1 {
		t.Fatalf("%v, %v", sandboxes, err)
	}
	w.CLI("sandbox", "rm", sandboxes[0].ID)
	for range 2 {
		select {
		case <-left:
		case <-time.After(5 * time.Second):
			t.Fatal("a request outlived its sandbox by 5 s")
		}
	}
	p.Wait()
}
