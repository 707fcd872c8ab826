package e2e_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport/e2e"
)

// holding begins requests whose body is held to be signed, and ends them when it is told.
const holding = `
import socket, ssl, sys
HOST = sys.argv[1]
def begin():
    c = ssl.create_default_context().wrap_socket(socket.create_connection((HOST, 443)), server_hostname=HOST)
    c.sendall(("POST /hook HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n" % HOST).encode())
    # It is asked for when the request was decided about, unless that was refused.
    answer = c.recv(65536)
    if b" 100 " in answer:
        c.sendall(b"5\r\nhello\r\n")
    return c, answer
def end(c, answer):
    if b" 100 " in answer:
        c.sendall(b"0\r\n\r\n")
        answer = b""
    while True:
        piece = c.recv(65536)
        if not piece:
            break
        answer += piece
    return answer.decode().replace("\r", "").replace("\n", " ")
held = None
for line in sys.stdin:
    word = line.strip()
    if word == "begin":
        held = begin()
        print("begun", flush=True)
    elif word == "end":
        print(end(*held), flush=True)
    else:
        print(end(*begin()), flush=True)
`

// TestHeldBodyOutlivesNoCredential: who takes its time with a body that is held to be
// signed has it signed with nothing that was taken away meanwhile.
func TestHeldBodyOutlivesNoCredential(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	const host, key, next = "held.sallyport.test", "whsec-0123456789abcdef0123456789abcdef", "whsec-another-0123456789abcdef01234567"
	var arrived atomic.Int64
	w.OriginServer(host, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived.Add(1)
		if r.Header.Get("X-Signature") == "" {
			rw.WriteHeader(http.StatusUnauthorized)
		}
	}), "http/1.1")
	w.Pinned("held", key, "--host", host, "--auth", "hmac", "--setting", "algorithm=sha256", "--setting", "string_to_sign={{body}}",
		"--inject", "header:X-Signature: {{signature:hex}}")
	agent := w.Start("held", "python3", "-u", "-c", holding, host)
	after := func(what, want string, change func()) {
		t.Helper()
		agent.Ask("begin")
		change()
		before := arrived.Load()
		if got := agent.Ask("end"); !strings.Contains(got, want) || (arrived.Load() > before) != (want == " 200 ") {
			t.Errorf("%s: %d arrived, and the answer is %s", what, arrived.Load()-before, got)
		}
	}
	now := func(want string) {
		t.Helper()
		w.Eventually("a request gets "+want, func() bool { return strings.Contains(agent.Ask("now"), want) })
	}
	after("nothing changes", " 200 ", func() {})
	after("a rotation", "credential_changing", func() {
		w.CLIReading(next, "credential", "rotate", "--vault", "held", "held", "--secret-file", "-", "--wait")
	})
	after("limits of another method", "limit_method", func() {
		w.CLI("credential", "set", "--vault", "held", "held", "--method", "GET")
		now("limit_method")
	})
	w.CLI("credential", "set", "--vault", "held", "held", "--method", "POST")
	now(" 200 ")
	after("a policy", "policy_denied", func() {
		w.CLI("agent", "policy", "set", "held", "--rule", "deny "+host)
		now("policy_denied")
	})
	w.CLI("agent", "policy", "set", "held", "--rule", "inspect "+host)
	now(" 200 ")
	after("an unpinned credential", "credential_changing", func() {
		w.CLI("agent", "unpin", "held", "held")
		now(" 401 ") // it is without a signature
	})
}
