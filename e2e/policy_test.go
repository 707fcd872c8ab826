package e2e_test

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/control"
	"sallyport/e2e"
)

// pinning is a curl that trusts the upstreams' own authority and no other.
func pinning(w *e2e.World) []string {
	text, err := os.ReadFile(w.UpstreamCA())
	if err == nil {
		err = os.WriteFile(w.Client("pinned-ca.pem"), text, 0o644)
	}
	if err != nil {
		panic(err)
	}
	return []string{"curl", "-sS", "--cacert", w.Client("pinned-ca.pem"), "--capath", "/nonexistent"}
}

func events(t *testing.T, w *e2e.World) []control.Event {
	t.Helper()
	var all []control.Event
	if err := json.Unmarshal([]byte(w.CLI("-o", "json", "audit", "list")), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestPassthrough: a client that pins certificates reaches the host that the
// policy passes through, in its own TLS and with nothing added. A bound host is
// not passed through, whatever the policy says.
func TestPassthrough(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.Pinned("agent", token, "--host", e2e.EchoHost, "--inject", "bearer")
	curl := pinning(w)

	refused := w.TryRun("agent", append(curl, "https://"+e2e.PublicHost+"/too-early")...)
	remedy := "sallyport agent policy set agent --rule 'passthrough " + e2e.PublicHost + "'"
	if refused.Status != 60 || !strings.Contains(refused.Stderr, "code=untrusted_ca") || !strings.Contains(refused.Stderr, remedy) {
		t.Errorf("curl ended with %d; the log has no untrusted_ca with %q:\n%s", refused.Status, remedy, refused.Stderr)
	}
	w.CLI("agent", "policy", "set", "agent", "--rule", "passthrough "+e2e.PublicHost+","+e2e.EchoHost)

	w.Run("agent", append(curl, "-f", "--tls-max", "1.2", "-H", "Authorization: Bearer mine", "https://"+e2e.PublicHost+"/pinned")...)
	if seen := w.Nginx.Seen("/pinned")[0]; seen.TLS != "TLSv1.2" || seen.Authorization != "Bearer mine" {
		t.Errorf("upstream saw %+v, want the client's own TLS and header", seen)
	}
	if r := w.TryRun("agent", append(curl, "https://"+e2e.EchoHost+"/bound")...); r.Status != 60 || !strings.Contains(r.Stderr, "is never passed through") {
		t.Errorf("a client that pins the bound host's certificate ended with %d:\n%s", r.Status, r.Stdout+r.Stderr)
	}
	w.Nginx.SeenNone("/bound")
	w.Run("agent", "curl", "-sSf", "https://"+e2e.EchoHost+"/injected", "http://"+e2e.PublicHost+"/plain")
	if seen := w.Nginx.Seen("/injected")[0]; seen.Authorization != "Bearer "+token {
		t.Errorf("the bound host got %q", seen.Authorization)
	}

	all := events(t, w)
	find := func(what string, fits func(control.Event) bool) control.Event {
		i := slices.IndexFunc(all, fits)
		if i < 0 {
			t.Fatalf("there is no event of %s in %+v", what, all)
		}
		return all[i]
	}
	passed := find("the connection passed through", func(e control.Event) bool { return e.Decision == "passthrough" })
	if passed.Host != e2e.PublicHost || passed.Port != 443 || passed.Protocol != "TLS" || passed.BytesOut < 300 || passed.BytesIn < 500 ||
		passed.DurationUS <= 0 || passed.Credential != "" || passed.Path != "" {
		t.Errorf("passed through: %+v", passed)
	}
	find("the client that pins", func(e control.Event) bool { return e.Reason == "untrusted_ca" && e.Host == e2e.PublicHost })
	// Plain HTTP is read even so: each request names its own host.
	find("plain HTTP", func(e control.Event) bool { return e.Path == "/plain" && e.Decision == "inspect" })
}

// TestPolicyOfRequests: what is denied is answered so, over TLS too, and no path
// that could be taken for a denied one gets through.
func TestPolicyOfRequests(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.Pinned("agent", token, "--host", e2e.EchoHost, "--inject", "bearer")
	w.CLI("agent", "policy", "set", "agent", "--default", "deny",
		"--rule", "deny "+e2e.EchoHost+" /admin", "--rule", "deny * DELETE", "--rule", "inspect "+e2e.PublicHost+" GET,HEAD /open /also")
	var command strings.Builder
	tests := []struct {
		flags, url string
		status     int
		code       string
	}{
		{"", "https://" + e2e.PublicHost + "/open/1", 200, ""},
		{"", "http://" + e2e.PublicHost + "/also/1", 200, ""},
		{"-X POST", "https://" + e2e.PublicHost + "/open/2", 403, "policy_denied"},
		{"", "https://" + e2e.PublicHost + "/opener", 403, "policy_denied"},
		{"--http1.1", "https://" + e2e.PublicHost + "/open/%2e%2e/shut", 400, "bad_path"},
		{"", "https://" + e2e.PublicHost + "/open/..;/shut", 400, "bad_path"},
		{"-X DELETE", "https://" + e2e.PublicHost + "/open/3", 403, "policy_denied"},
		{"", "https://" + e2e.OtherHost + "/other", 403, "policy_denied"},
		{"", "https://nowhere.sallyport.test/", 403, "policy_denied"}, // not asked for by name either
		{"", "https://" + e2e.EchoHost + "/bound", 200, ""},
		{"-X DELETE", "https://" + e2e.EchoHost + "/bound", 403, "policy_denied"},
		{"", "https://" + e2e.EchoHost + "/admin/users", 403, "policy_denied"},
		{"", "https://" + e2e.EchoHost + "/ADMIN", 403, "policy_denied"},
		{"", "https://" + e2e.EchoHost + "/%61dmin", 403, "policy_denied"},
		{"", "https://" + e2e.EchoHost + "/x/../admin", 400, "bad_path"},
		{"", "https://" + e2e.EchoHost + "//admin", 400, "bad_path"},
		{"", "https://" + e2e.EchoHost + "/x%2f..%2fadmin", 400, "bad_path"},
		{"", "https://" + e2e.EchoHost + "/admin;x", 400, "bad_path"},
		{"-H 'X-Http-Method-Override: DELETE'", "https://" + e2e.EchoHost + "/overridden", 400, "bad_request"},
		{"-H 'X_HTTP_Method_Override: DELETE'", "https://" + e2e.EchoHost + "/overridden", 400, "bad_request"},
		{"-H 'X-Original-URL: /admin'", "https://" + e2e.EchoHost + "/rewritten", 400, "bad_request"},
	}
	for _, tt := range tests {
		fmt.Fprintf(&command, "curl -sS --path-as-is -o /dev/null -w '%%{http_code} %%header{sallyport-error}\\n' %s '%s';", tt.flags, tt.url)
	}
	lines := strings.Split(w.Run("agent", "sh", "-c", command.String()), "\n")
	for i, tt := range tests {
		if want := strconv.Itoa(tt.status) + " " + tt.code; lines[i] != want {
			t.Errorf("%s %s was answered %q, want %q", tt.flags, tt.url, lines[i], want)
		}
	}
	for _, seen := range w.Nginx.SeenSoFar("/") {
		if strings.Contains(strings.ToLower(seen.URI), "admin") || strings.Contains(seen.URI, "shut") || seen.Method == http.MethodDelete {
			t.Errorf("arrived upstream: %+v", seen)
		}
	}
}

// sshServer is a real one that lets anybody in, says hello and then echoes. Its
// address is given.
func sshServer(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	return tcpServer(t, func(c net.Conn) {
		connection, channels, requests, err := ssh.NewServerConn(c, config)
		if err != nil {
			return
		}
		defer connection.Close()
		go ssh.DiscardRequests(requests)
		for channel := range channels {
			session, asked, err := channel.Accept()
			if err != nil {
				return
			}
			go func() {
				for r := range asked {
					r.Reply(r.Type == "exec", nil)
					if r.Type == "exec" {
						io.WriteString(session, "hello\n")
						io.Copy(session, session)
						session.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
						session.Close()
					}
				}
			}()
		}
	})
}

// tcpServer plays act for each connection, and gives its address.
func tcpServer(t *testing.T, act func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				act(c)
			}()
		}
	}()
	return listener.Addr().String()
}

const (
	sshHost  = "ssh.sallyport.test"
	mailHost = "mail.sallyport.test"
	sshCall  = "ssh -T -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes nobody@" + sshHost
)

// TestOtherProtocols pass where the policy names host and port, even if the server
// speaks first, and nowhere else.
func TestOtherProtocols(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.CLI("agent", "create", "agent")
	w.OriginAt(sshHost, 22, sshServer(t))
	w.OriginAt(sshHost, 443, sshServer(t))
	w.OriginAt(mailHost, 25, tcpServer(t, func(c net.Conn) { // of which a client waits for the greeting
		io.WriteString(c, "220 mail.sallyport.test ready\r\n")
		io.ReadFull(c, make([]byte, 6))
		io.WriteString(c, "221 bye\r\n")
	}))
	mail := "exec 3<>/dev/tcp/" + mailHost + "/25; read -t 10 line <&3; echo \"$line\"; printf 'QUIT\\r\\n' >&3; cat <&3"
	if r := w.TryRun("agent", "bash", "-c", mail); !strings.Contains(r.Stderr, "code=port_refused") || strings.Contains(r.Stdout, "220") {
		t.Errorf("without a rule: %q\n%s", r.Stdout, r.Stderr)
	}
	w.CLI("agent", "policy", "set", "agent", "--default", "deny", "--rule", "passthrough "+sshHost+":22,"+sshHost+":443", "--rule", "passthrough "+mailHost+":25")

	if got := w.Run("agent", "bash", "-c", mail); got != "220 mail.sallyport.test ready\r\n221 bye\r\n" {
		t.Errorf("mail said %q", got)
	}
	for _, port := range []string{"22", "443"} {
		if got := w.Run("agent", "bash", "-c", "echo and back | "+sshCall+" -p "+port+" x"); got != "hello\nand back\n" {
			t.Errorf("ssh at port %s said %q", port, got)
		}
	}
	if got := w.Run("agent", "bash", "-c", "echo proxied | "+sshCall+` -o ProxyCommand='python3 -c "
import os, socket, sys, threading
c = socket.create_connection((\"127.0.0.1\", int(os.environ[\"SALLYPORT_PROXY\"].rsplit(\":\", 1)[1])))
c.sendall(b\"CONNECT %h:%p HTTP/1.1\r\nHost: %h:%p\r\n\r\n\")
head = b\"\"
while not head.endswith(b\"\r\n\r\n\"):
    head += c.recv(1)
def up():
    while data := os.read(0, 65536):
        c.sendall(data)
    c.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := c.recv(65536):
    os.write(1, data)
"' x`); got != "hello\nproxied\n" {
		t.Errorf("ssh by CONNECT said %q", got)
	}
	// Another host at that port, an address nobody was led to, and what speaks
	// neither TLS nor HTTP at 443.
	for name, place := range map[string]string{"another host": e2e.PublicHost + "/22", "an address": "192.0.2.7/22", "another host at 443": e2e.PublicHost + "/443"} {
		r := w.TryRun("agent", "bash", "-c", "exec 3<>/dev/tcp/"+place+"; printf 'SSH-2.0-x\\r\\n' >&3; timeout 5 cat <&3")
		if strings.Contains(r.Stdout, "SSH-") || !strings.Contains(r.Stderr, "policy_denied") && !strings.Contains(r.Stderr, "malformed_request") {
			t.Errorf("%s: %q\n%s", name, r.Stdout, r.Stderr)
		}
	}
	all := events(t, w)
	if n := len(slices.DeleteFunc(all, func(e control.Event) bool {
		return e.Decision != "passthrough" || e.Host != sshHost || e.Protocol != "TCP"
	})); n != 3 {
		t.Errorf("%d connections of ssh were recorded as passed through, want 3", n)
	}
}

// TestPolicyIsPushed to running sandboxes: the next request and the next
// connection are decided by it, and open connections that it does not allow end
// at once. A rotation ends none.
func TestPolicyIsPushed(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.Pinned("agent", token, "--host", e2e.EchoHost, "--inject", "bearer")
	w.OriginAt(sshHost, 22, tcpServer(t, func(c net.Conn) {
		io.WriteString(c, "SSH-2.0-test\n")
		io.Copy(c, c)
	}))
	allowed := []string{"agent", "policy", "set", "agent", "--rule", "passthrough " + sshHost + ":22"}
	w.CLI(allowed...)
	agent := w.Start("agent", "bash", "-c", `
		while read -r step argument; do case $step in
		open) exec 3<>/dev/tcp/`+sshHost+`/22 && read -r line <&3; echo "$line";;
		say) echo "$argument" >&3; read -r -t 10 line <&3; echo "$line";;
		end) if read -r -t 20 line <&3; then echo "it said $line"; elif (( $? > 128 )); then echo "still open"; else echo ended; fi;;
		get) curl -sS -o /dev/null -w '%{http_code}\n' "$argument";;
		esac; done`)
	ask := func(step, want string) {
		t.Helper()
		if got := agent.Ask(step); got != want {
			t.Errorf("%s: %q, want %q", step, got, want)
		}
	}
	ask("open", "SSH-2.0-test")
	ask("get https://"+e2e.PublicHost, "200")

	w.CLIReading("another-"+token, "credential", "rotate", "agent", "--vault", "agent", "--secret-file", "-", "--wait")
	ask("say after the rotation", "after the rotation")
	w.CLI("agent", "policy", "set", "agent", "--rule", "deny "+e2e.PublicHost, "--rule", "passthrough "+sshHost+":22")
	w.Eventually("the new policy holds", func() bool { return agent.Ask("get https://"+e2e.PublicHost) == "403" })
	ask("say after another rule", "after another rule")

	w.CLI("agent", "policy", "set", "agent", "--default", "inspect")
	ask("end", "ended")
	w.Eventually("the audit log says why", func() bool {
		return slices.ContainsFunc(events(t, w), func(e control.Event) bool {
			return e.Decision == "passthrough" && e.Host == sshHost && e.Reason == "policy_changed"
		})
	})
	w.CLI(allowed...)
	w.Eventually("the first policy holds again", func() bool { return agent.Ask("get https://"+e2e.PublicHost) == "200" })
	ask("open", "SSH-2.0-test")
	w.CLI("agent", "rm", "agent")
	ask("end", "ended")
}

// TestPassthroughIsSpliced: under the worker's filter of system calls too the
// kernel moves the bytes, and the worker reads none.
func TestPassthroughIsSpliced(t *testing.T) {
	const host, size = "blob.sallyport.test", 64 << 20
	w := e2e.NewWorld(t, e2e.Shipped)
	w.CLI("agent", "create", "agent")
	w.OriginAt(host, 9000, tcpServer(t, func(c net.Conn) { io.CopyN(c, zeros{}, size) }))
	w.CLI("agent", "policy", "set", "agent", "--rule", "passthrough "+host+":9000")
	agent := w.Start("agent", "bash", "-c", "while read -r _; do exec 3<>/dev/tcp/"+host+"/9000; wc -c <&3; done")
	agent.Ask("once, so that all is warm")
	worker := agent.Worker()
	before := readBy(t, worker)
	if got := agent.Ask("go"); got != strconv.Itoa(size) {
		t.Fatalf("%s bytes arrived", got)
	}
	if read := readBy(t, worker) - before; read > size/10 {
		t.Errorf("the worker read %d MiB of %d", read>>20, size>>20)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// readBy is what a process has read by read(2) and its like. splice(2) is not
// counted there.
func readBy(t *testing.T, pid int) (n int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(text), "rchar: %d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}
