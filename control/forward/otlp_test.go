package forward

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"sallyport/control"
)

// collecting takes OTLP as long as it likes to.
type collecting struct {
	mu       sync.Mutex
	got      map[string]string // event names, by team and position
	answer   func(w http.ResponseWriter, r *http.Request) bool
	refuse   func(bodies []string) int // a status for events that it does not take; nil: it takes all
	followed bool
}

func (c *collecting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.URL.Path != "/v1/logs" || r.Method != "POST" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.followed = true
		return
	}
	if c.answer != nil && !c.answer(w, r) {
		return
	}
	unpacked, err := gzip.NewReader(r.Body)
	if err != nil {
		panic(err)
	}
	body, err := io.ReadAll(unpacked)
	var request collector.ExportLogsServiceRequest
	if err != nil || proto.Unmarshal(body, &request) != nil {
		panic("not OTLP")
	}
	records := request.ResourceLogs[0].ScopeLogs[0].LogRecords
	if c.refuse != nil {
		var bodies []string
		for _, record := range records {
			bodies = append(bodies, record.Body.GetStringValue())
		}
		if status := c.refuse(bodies); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	for _, record := range records {
		var team string
		var id int64
		for _, a := range record.Attributes {
			switch a.Key {
			case "sallyport.team":
				team = a.Value.GetStringValue()
			case "sallyport.id":
				id = a.Value.GetIntValue()
			}
		}
		c.got[fmt.Sprintf("%s/%d", team, id)] = record.EventName
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	answer, _ := proto.Marshal(&collector.ExportLogsServiceResponse{})
	w.Write(answer)
}

func (c *collecting) set(answer func(w http.ResponseWriter, r *http.Request) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = answer
}

func (c *collecting) has(id int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, found := c.got[fmt.Sprintf("billing/%d", id)]
	return found
}

// TestOTLPFailures: whatever a receiver answers, it has every event when it is well again,
// but those that it rejected for good, which are counted. Redirects are not followed.
func TestOTLPFailures(t *testing.T) {
	t.Parallel()
	c := &collecting{got: map[string]string{}}
	server := httptest.NewServer(c)
	defer server.Close()
	headers := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(headers, []byte("# of the receiver\nAuthorization: Bearer canary\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPlane(t)
	metric, _ := p.forward(t, p.Store, "otlp+"+server.URL+"?team=billing&headers="+headers)
	var authorized bool
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"503": func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(503); return false },
		"400": func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(400); return false },
		"redirect": func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/stolen", http.StatusTemporaryRedirect)
			return false
		},
		"cut": func(w http.ResponseWriter, r *http.Request) bool { panic(http.ErrAbortHandler) },
		"half an answer": func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("x"))
			return false
		},
	} {
		c.set(answer)
		failures := metric("forward_errors_total")
		p.record(t, 3, control.Event{Kind: "act", Actor: "token:x"})
		eventually(t, name+" is an error", func() bool { return metric("forward_errors_total") > failures })
		if c.has(p.count) {
			t.Errorf("%s: it has what it did not take", name)
		}
		c.set(func(w http.ResponseWriter, r *http.Request) bool {
			authorized = r.Header.Get("Authorization") == "Bearer canary"
			return true
		})
		eventually(t, "all arrives after "+name, func() bool { return c.has(p.count) && c.has(p.count-1) && c.has(p.count-2) })
	}
	c.set(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", "application/x-protobuf")
		answer, _ := proto.Marshal(&collector.ExportLogsServiceResponse{PartialSuccess: &collector.ExportLogsPartialSuccess{RejectedLogRecords: 1, ErrorMessage: "no\nthanks"}})
		w.Write(answer)
		return false
	})
	p.record(t, 1, control.Event{Kind: "act", Actor: "token:x"})
	eventually(t, "what is rejected is counted", func() bool { return metric("forward_lost_total") >= 1 })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.followed || !authorized || c.got["/1"] != "" || c.got["billing/2"] != "sallyport.audit.act" {
		t.Errorf("followed %t, authorized %t, got %v", c.followed, authorized, c.got)
	}
}

// TestHangingReceiver: one that reads nothing holds up neither what is recorded nor another
// receiver, and gets all when it reads again.
func TestHangingReceiver(t *testing.T) {
	t.Parallel()
	small := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10) }), err)
	}}
	hanging := must(small.Listen(t.Context(), "tcp", "127.0.0.1:0"))(t)
	defer hanging.Close()
	c := &collecting{got: map[string]string{}}
	server := httptest.NewServer(c)
	defer server.Close()
	p := newPlane(t)
	metric, _ := p.forward(t, p.Store, "syslog+tcp://"+hanging.Addr().String(), "otlp+"+server.URL)
	conn := must(hanging.Accept())(t)
	defer conn.Close()
	p.record(t, 25, control.Event{Kind: "act", Actor: "token:x", Detail: strings.Repeat("x", 6000)})
	eventually(t, "the other has all", func() bool { return c.has(p.count) })
	if n := metric("forward_lag_events"); n == 0 {
		t.Error("it is not known that one is behind")
	}
	read := make(chan struct{})
	go func() { defer close(read); io.Copy(io.Discard, conn) }()
	eventually(t, "so has the one that hung", func() bool { return metric("forward_lag_events") == 0 })
	conn.Close()
	<-read
}

// beside records more events, of another team, and waits until they arrived.
func (c *collecting) beside(t *testing.T, p *plane, more int) {
	t.Helper()
	other := must(p.CreateTeam(t.Context(), "other", control.Event{Kind: "team.create", Actor: "test"}))(t)
	for i := range more {
		must(p.CreateAgent(t.Context(), other.ID, fmt.Sprint("a", i), control.Event{Kind: "act", Actor: "token:x"}))(t)
	}
	eventually(t, "another team's arrive", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.got[fmt.Sprintf("other/%d", more+1)] != ""
	})
}

// TestRefusedEventsHoldUpNoOther: events that a receiver does not take, because of their size or
// what they are, keep those of other teams no longer; those before them arrive.
func TestRefusedEventsHoldUpNoOther(t *testing.T) {
	t.Parallel()
	c := &collecting{got: map[string]string{}}
	server := httptest.NewServer(c)
	defer server.Close()
	c.refuse = func(texts []string) int {
		switch {
		case len(texts) > 20:
			return 413
		case poisoned(texts):
			return 400
		}
		return 0
	}
	p := newPlane(t)
	p.record(t, 50, control.Event{Kind: "act", Actor: "token:x"})
	before := p.count
	p.record(t, 1, control.Event{Kind: "act", Actor: "token:x", Detail: poison})
	metric, _ := p.forward(t, p.Store, "otlp+"+server.URL)
	eventually(t, "those before it arrive", func() bool { return c.has(before) })
	c.beside(t, p, 60)
	eventually(t, "it is skipped", func() bool { return metric("forward_lost_total") == 1 })
	if c.has(before+1) || metric("forward_errors_total") == 0 {
		t.Errorf("taken %t, %v errors", c.has(before+1), metric("forward_errors_total"))
	}
}

// TestReceiverRepeatsItsHeaders: what a receiver says of a failure may hold what it was
// sent, and is in no log.
func TestReceiverRepeatsItsHeaders(t *testing.T) {
	const canary = "canary-0123456789"
	headers := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(headers, []byte("Authorization: Bearer "+canary+"\nX-Scope: s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rejecting, err := proto.Marshal(&collector.ExportLogsServiceResponse{PartialSuccess: &collector.ExportLogsPartialSuccess{RejectedLogRecords: 1, ErrorMessage: "no: Bearer " + canary + ", says s"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]string{
		"status":    "HTTP/1.1 503 Bearer " + canary + "\r\nContent-Length: 0\r\n\r\n",
		"rejection": fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n%s", len(rejecting), rejecting),
		"no HTTP":   "Bearer " + canary + "\r\n\r\n",
		"much":      "HTTP/1.1 " + strings.Repeat("x", 60<<10) + "\r\n\r\n",
		"a field":   "HTTP/1.1 503 no\r\nBearer " + canary + "\r\n\r\n",
		"redirect":  "HTTP/1.1 302 no\r\nLocation: :Bearer " + canary + "\r\nContent-Length: 0\r\n\r\n",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			io.WriteString(conn, answer)
			conn.Close()
		}))
		target := must(ParseTarget("otlp+" + server.URL + "?headers=" + headers))(t)
		receiver := newOTLP(target, Sender{"h", "v"})
		err := receiver.Send(t.Context(), []Event{{Team: "billing"}})
		if err == nil || strings.Contains(err.Error(), canary) || len(err.Error()) > 2*maxSaid {
			t.Errorf("%s: %v", name, err)
		}
		receiver.Close()
		server.Close()
	}
}
