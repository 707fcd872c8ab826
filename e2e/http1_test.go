package e2e_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"sallyport/e2e"
	"sallyport/e2e/smuggle/vectors"
)

// certified is what httptest's certificate is for. It is as long as vectors.Host,
// so that no length in a vector changes.
const certified = "example.com"

// rawOrigin is net/http's server, which notes every whole request.
type rawOrigin struct {
	*httptest.Server
	mu   sync.Mutex
	seen map[string]int // by the vector's mark
	keys []string       // that were not the credential alone
}

var mark = regexp.MustCompile(`[vs]\d{4}`)

func newRawOrigin(t *testing.T) *rawOrigin {
	o := &rawOrigin{seen: map[string]int{}}
	o.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.seen[mark.FindString(r.RequestURI)]++
		var keys []string
		for name, values := range r.Header {
			if strings.EqualFold(strings.ReplaceAll(name, "_", "-"), "X-Api-Key") {
				keys = append(keys, values...)
			}
		}
		if len(keys) != 1 || keys[0] != token || r.Host != certified {
			o.keys = append(o.keys, fmt.Sprintf("%s %s %s with %q", r.Method, r.Host, r.RequestURI, keys))
		}
		fmt.Fprintf(w, "key %s\n", keys)
	}))
	o.Config.ErrorLog = log.New(io.Discard, "", 0)
	o.StartTLS()
	t.Cleanup(o.Close)
	return o
}

// TestVectorsFromASandbox sends each ninth of the vectors that RFC 9112 leaves no
// doubt about as raw bytes over TLS from a real sandbox. smuggle.TestOneReading sends all of them, to many servers.
func TestVectorsFromASandbox(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.Pinned("agent", token, "--host", certified, "--inject", "header:X-Api-Key: {{token}}")
	origin := newRawOrigin(t)
	ca := filepath.Join(w.Dir, "origin-ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: origin.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	var sent []vectors.Vector
	var said strings.Builder
	for _, v := range vectors.All() {
		if v.Number%9 != 0 || len(v.Text) > 100_000 || v.Want == vectors.Either {
			continue
		}
		latin := make([]rune, len(v.Text)) // a byte a character, as raw.py wants it
		for i, c := range []byte(strings.ReplaceAll(v.Text, vectors.Host, certified)) {
			latin[i] = rune(c)
		}
		line, err := json.Marshal(string(latin))
		if err != nil {
			t.Fatal(err)
		}
		said.Write(append(line, '\n'))
		sent = append(sent, v)
	}
	out := w.CLIReading(said.String(), "run", "--agent", "agent", "--upstream-ca", ca,
		"--connect-to", fmt.Sprintf("%s:443:127.0.0.1:%d", certified, origin.Listener.Addr().(*net.TCPAddr).Port), "--",
		"/usr/bin/python3", w.Client("raw.py"), certified, "443")
	answers := strings.Split(strings.TrimSpace(out), "\n")
	if len(answers) != len(sent) {
		t.Fatalf("%d vectors had %d answers", len(sent), len(answers))
	}
	origin.mu.Lock()
	defer origin.mu.Unlock()
	accepted := 0
	for i, v := range sent {
		own, hidden := origin.seen[fmt.Sprintf("%s%04d", vectors.Own, v.Number)], origin.seen[fmt.Sprintf("%s%04d", vectors.Hidden, v.Number)]
		switch {
		case v.Want == vectors.Refuse && own+hidden > 0:
			t.Errorf("%s was let through: %d requests, %d hidden ones; the answer was %.200s", v, own, hidden, answers[i])
		case v.Want == vectors.Accept && (own != v.Requests || hidden > 0) && v.Group != "host" && !strings.Contains(v.Text, "OPTIONS *"):
			t.Errorf("%s came as %d requests, want %d, and %d hidden ones; the answer was %.200s", v, own, v.Requests, hidden, answers[i])
		}
		if v.Want == vectors.Accept {
			accepted++
		}
		if strings.Contains(answers[i], token) {
			t.Errorf("%s: the credential came back: %.300s", v, answers[i])
		}
	}
	for _, key := range origin.keys {
		t.Errorf("not the credential alone: %s", key)
	}
	t.Logf("%d vectors, %d of them to be accepted", len(sent), accepted)
}
