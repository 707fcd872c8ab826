package e2e_test

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/e2e"
)

// h2specFailures are the cases of h2spec that are known to fail, each with why.
// docs/conformance.md says the same to people.
var h2specFailures = map[string]string{
	"Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE":                                          "net/http ends a connection whose SETTINGS frame names a setting twice, as floods do",
	"Sends a HEADERS frame that contains the connection-specific header field":                       "net/http answers 400, which RFC 9113 section 8.1.1 allows, and does not reset the stream besides",
	"Sends a HEADERS frame that contains the TE header field with any value other than \"trailers\"": "as the one before",
}

// h2cFailures are those without TLS beside them.
var h2cFailures = map[string]string{
	"Sends invalid connection preface": "what does not begin with the preface is HTTP/1 there, and is refused in HTTP/1",
}

// TestH2spec runs h2spec in a sandbox, over TLS and by prior knowledge, as its upstreams
// are spoken to then. At /body they wait for a request's body, so that what is wrong with
// it is seen before an answer.
func TestH2spec(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.Pinned("agent", token, "--host", e2e.EchoHost, "--inject", "bearer")
	const plainHost = "plain.h2spec.test"
	w.PlainOriginServer(plainHost, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(rw, "swallowed\n")
	}))
	for name, flags := range map[string]string{"tls": "-t -k -p 443 -h " + e2e.EchoHost, "h2c": "-p 80 -h " + plainHost} {
		t.Run(name, func(t *testing.T) {
			w := w.In(t)
			report := w.Run("agent", "sh", "-c", w.Tool("h2spec")+" "+flags+" -P /body -j /tmp/h2spec.xml >/tmp/h2spec.log; cat /tmp/h2spec.xml")
			var suites struct {
				Suites []struct {
					Cases []struct {
						Package string    `xml:"package,attr"`
						Name    string    `xml:"classname,attr"`
						Failure *struct{} `xml:"failure"`
						Error   *struct{} `xml:"error"`
					} `xml:"testcase"`
				} `xml:"testsuite"`
			}
			if err := xml.Unmarshal([]byte(report), &suites); err != nil {
				t.Fatalf("%v in %s", err, report)
			}
			run, passed := 0, 0
			for _, suite := range suites.Suites {
				for _, c := range suite.Cases {
					run++
					_, known := h2specFailures[c.Name]
					if _, plainly := h2cFailures[c.Name]; plainly && name == "h2c" {
						known = true
					}
					switch failed := c.Failure != nil || c.Error != nil; {
					case failed && !known:
						t.Errorf("%s: %s: failed", c.Package, c.Name)
					case !failed && known:
						t.Errorf("%s: %s: passed, though named as one that fails", c.Package, c.Name)
					case !failed:
						passed++
					}
				}
			}
			t.Logf("%d of %d cases passed", passed, run)
			if run != 145 {
				t.Errorf("h2spec ran %d cases, want 145", run)
			}
		})
	}
}

// ends are the four ways in which client and upstream may speak, each with an
// upstream of the test's own behind a host.
func ends(t *testing.T, w *e2e.World, handler http.Handler, test func(t *testing.T, w *e2e.World, flag, url string)) {
	w.Pinned("agent", token, "--host", "*.ends.test", "--inject", "bearer")
	w.OriginServer("one.ends.test", handler, "http/1.1")
	w.OriginServer("two.ends.test", handler, "h2") // else HTTP/1.1 would be spoken for a client that does
	for _, client := range []string{"http1.1", "http2"} {
		for host, upstream := range map[string]string{"one": "http1.1", "two": "http2"} {
			t.Run(client+" to "+upstream, func(t *testing.T) {
				test(t, w.In(t), "--"+client, "https://"+host+".ends.test/")
			})
		}
	}
}

// TestSlowReader has one side send as fast as it can while the other hardly
// reads: the sender must stall, and the worker's memory stay as it was.
func TestSlowReader(t *testing.T) {
	const most = 24 << 20 // in flight: four sockets' buffers, which the kernel lets grow, and flow-control windows
	var sent, received atomic.Int64
	w := e2e.NewWorld(t, e2e.Shipped)
	ends(t, w, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		piece := make([]byte, 64<<10)
		if r.Method == http.MethodPut {
			for began := time.Now(); time.Since(began) < 3*time.Second; {
				n, err := r.Body.Read(piece[:1<<10])
				if received.Add(int64(n)); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
			return
		}
		for r.Context().Err() == nil {
			n, err := rw.Write(piece)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}), func(t *testing.T, w *e2e.World, flag, url string) {
		sent.Store(0)
		curl := "curl -sS " + flag + " " + url
		p := w.Start("agent", "bash", "-c", "echo ready; read -r; "+curl+" --limit-rate 50k --max-time 2 >/dev/null; echo down; read -r; "+
			"head -c 1G /dev/zero | timeout 2 "+curl+" -T - -o /dev/null; echo up")
		p.Line()
		before := p.WorkerMemory()
		p.Say("")
		down := watch(t, p, before)
		if n := sent.Load(); n > most {
			t.Errorf("the upstream could send %d MiB to a client that reads 50 KiB/s", n>>20)
		}
		received.Store(0)
		p.Say("")
		up := watch(t, p, before)
		t.Logf("down: %d KiB sent, memory grew by %d KiB; up: %d KiB received, memory grew by %d KiB", sent.Load()>>10, down>>10, received.Load()>>10, up>>10)
	})
}

// watch waits for the program's next line and gives by how much its worker's
// memory grew at most.
func watch(t *testing.T, p *e2e.Program, before int) int {
	t.Helper()
	const most = 24 << 20
	said := make(chan string, 1)
	go func() { said <- p.Line() }()
	peak := before
	for {
		select {
		case <-said:
			if peak-before > most {
				t.Errorf("the worker's memory grew by %d MiB", (peak-before)>>20)
			}
			return peak - before
		case <-time.After(50 * time.Millisecond):
			peak = max(peak, p.WorkerMemory())
		}
	}
}

// TestCancel: when a client leaves, the upstream's handler is told soon.
func TestCancel(t *testing.T) {
	began, ended := make(chan struct{}, 1), make(chan time.Time, 1)
	w := e2e.NewWorld(t, e2e.Race)
	ends(t, w, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/streaming" {
			_, _ = io.WriteString(rw, "first ")
			_ = http.NewResponseController(rw).Flush()
		}
		began <- struct{}{}
		<-r.Context().Done()
		ended <- time.Now()
	}), func(t *testing.T, w *e2e.World, flag, url string) {
		for _, path := range []string{"waiting", "streaming"} {
			p := w.Start("agent", "bash", "-c", fmt.Sprintf("curl -sS %s %s & read -r; kill $!; echo killed; read -r", flag, url+path))
			<-began
			p.Say("")
			left := time.Now()
			select {
			case at := <-ended:
				t.Logf("%s: told after %s", path, at.Sub(left).Round(time.Millisecond))
			case <-time.After(5 * time.Second):
				t.Errorf("%s: the upstream was not told", path)
			}
			p.Stop()
		}
	})
}

// TestBrokenOff: a response that the upstream breaks off must not look whole.
func TestBrokenOff(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	ends(t, w, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sized" {
			rw.Header().Set("Content-Length", "100")
		}
		_, _ = io.WriteString(rw, "half of it")
		_ = http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	}), func(t *testing.T, w *e2e.World, flag, url string) {
		for _, path := range []string{"sized", "streamed"} {
			r := w.TryRun("agent", "curl", "-sS", flag, url+path)
			if r.Status != 18 && r.Status != 52 && r.Status != 92 { // partial; nothing; HTTP/2 stream error
				t.Errorf("%s: curl ended with status %d and %q, want an error\n%s", path, r.Status, r.Stdout, r.Stderr)
			}
		}
	})
}

// TestGoAway has nginx end its connections after a thousand requests, as it
// does, while many are under way: none is lost.
func TestGoAway(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.Pinned("agent", token, "--host", e2e.EchoHost, "--inject", "bearer")
	for name, flags := range map[string][]string{"GET": nil, "POST": {"-d", w.Client("get.py")}} {
		t.Run(name, func(t *testing.T) {
			w := w.In(t)
			const requests = 6000
			r := w.TryRun("agent", append(append([]string{"h2load", "-n", fmt.Sprint(requests), "-c", "2", "-m", "32"}, flags...), "https://"+e2e.EchoHost+"/"+name)...)
			if !strings.Contains(r.Stdout, fmt.Sprintf("%d succeeded, 0 failed, 0 errored", requests)) || !strings.Contains(r.Stdout, fmt.Sprintf("status codes: %d 2xx", requests)) {
				t.Errorf("h2load says\n%s%s", r.Stdout, r.Stderr)
			}
		})
	}
}

// TestHTTP2Fields: fields that HTTP/2 forbids and lists of them that are too
// long are refused in the words of HTTP, and recorded.
func TestHTTP2Fields(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.Pinned("agent", token, "--host", e2e.EchoHost, "--inject", "bearer")
	// Each field counts 32 bytes more than it has (RFC 9113 section 6.5.2); curl itself sends no more than 64 KiB.
	out := w.Run("agent", "bash", "-c", `curl -sS -o /dev/null -w '%{http_code} %header{sallyport-error}' --http2 -H @<(seq -f 'x%g: y' 2000) https://`+e2e.EchoHost+`/long`)
	if !strings.HasPrefix(out, "431") {
		t.Errorf("2,000 fields were answered %q, want 431", out)
	}
	w.Nginx.SeenNone("/long")
	for _, e := range auditOf(t, w) {
		if e.Path == "/long" && e.Status == http.StatusRequestHeaderFieldsTooLarge && e.Decision == "refuse" {
			return
		}
	}
	t.Error("there is no event of it")
}
