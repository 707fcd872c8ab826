package client_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
)

const canary = "canary-4f1d0c"

// fakeControl answers the admin API with what a test says, and keeps what came.
type fakeControl struct {
	*httptest.Server
	paths, tokens, bodies []string
}

func newFakeControl(t *testing.T, answer http.HandlerFunc) *fakeControl {
	t.Helper()
	f := &fakeControl{}
	f.Server = httptest.NewServer(f.keep(t, answer))
	t.Cleanup(f.Close)
	return f
}

func newFakeControlTLS(t *testing.T, answer http.HandlerFunc) *fakeControl {
	t.Helper()
	f := &fakeControl{}
	f.Server = httptest.NewUnstartedServer(f.keep(t, answer))
	f.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // refused handshakes are meant
	f.StartTLS()
	t.Cleanup(f.Close)
	return f
}

func (f *fakeControl) keep(t *testing.T, answer http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read the request: %v", err)
		}
		f.paths = append(f.paths, r.Method+" "+r.URL.RequestURI())
		f.tokens = append(f.tokens, r.Header.Get("Authorization"))
		f.bodies = append(f.bodies, string(body))
		answer(w, r)
	}
}

func (f *fakeControl) client(t *testing.T, ca []byte) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Server: f.URL, Token: control.Secret(canary), CA: ca, UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func reply(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func TestParseServer(t *testing.T) {
	for _, tt := range []struct{ server, want, err string }{
		{"http://127.0.0.1:8200", "http://127.0.0.1:8200", ""},
		{"http://127.0.0.1:8200/", "http://127.0.0.1:8200", ""},
		{"http://[::1]:8200", "http://[::1]:8200", ""},
		{"http://localhost:8200", "http://localhost:8200", ""},
		{"https://control.example.com", "https://control.example.com", ""},
		{"http://control.example.com:8200", "", "plain HTTP"},
		{"http://192.0.2.1", "", "plain HTTP"},
		{"http://0.0.0.0:8200", "", "plain HTTP"},
		{"http://127.0.0.1.example.com", "", "plain HTTP"},
		{"http://127.0.0.1@example.com", "", "no user"},
		{"https://user:" + canary + "@example.com", "", "no user"},
		{"https://example.com?token=" + canary, "", "no user, query"},
		{"control.example.com:8200", "", "must look like"},
		{"ftp://example.com", "", "must look like"},
		{"http://", "", "must look like"},
		{"https://exa mple.com/" + canary, "", "must look like"},
		{"", "", "must look like"},
	} {
		u, err := client.ParseServer(tt.server)
		switch {
		case tt.err == "" && (err != nil || u.String() != tt.want):
			t.Errorf("ParseServer(%q) = %v, %v; want %s", tt.server, u, err, tt.want)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("ParseServer(%q): error %v, want one with %q", tt.server, err, tt.err)
		case err != nil && strings.Contains(err.Error(), canary):
			t.Errorf("ParseServer(%q) repeats a secret: %v", tt.server, err)
		}
	}
}

// A redirect is how a server, or somebody in between, would have the token
// delivered elsewhere.
func TestTokenFollowsNoRedirect(t *testing.T) {
	thief := newFakeControl(t, reply(200, "application/json", `{}`))
	for _, status := range []int{301, 302, 303, 307, 308} {
		f := newFakeControl(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, thief.URL+r.URL.Path, status)
		})
		_, err := f.client(t, nil).Info(t.Context())
		if err == nil || !strings.Contains(err.Error(), "redirect") {
			t.Errorf("%d: error %v, want a refused redirect", status, err)
		}
	}
	if len(thief.tokens) != 0 {
		t.Errorf("the redirect's target was asked with %q", thief.tokens)
	}
}

func TestTLS(t *testing.T) {
	f := newFakeControlTLS(t, reply(200, "application/json", `{"token":"t"}`))
	if _, err := f.client(t, nil).Info(t.Context()); err == nil {
		t.Error("a server nobody vouches for was trusted")
	}
	if len(f.tokens) != 0 {
		t.Error("the token went to a server nobody vouches for")
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
	info, err := f.client(t, ca).Info(t.Context())
	if err != nil || info.Token != "t" {
		t.Errorf("with its CA: %+v, %v", info, err)
	}
	if _, err := client.New(client.Config{Server: f.URL, CA: []byte("no PEM")}); err == nil {
		t.Error("a CA file without a certificate was accepted")
	}
}

func TestAnswersThatAreErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
		code   control.Code
	}{
		{"problem", reply(409, "application/problem+json", `{"title":"Conflict","status":409,"detail":"the vault exists","code":"conflict"}`), "the vault exists", control.CodeConflict},
		{"title alone", reply(400, "application/problem+json", `{"title":"Bad Request"}`), "Bad Request", ""},
		{"fields", reply(422, "application/problem+json", `{"detail":"validation failed","errors":[{"message":"too short","location":"body.name"}]}`), "validation failed; body.name too short", ""},
		{"no problem+json", reply(502, "text/html", "<html>"+canary), "the server answered 502 Bad Gateway", ""},
		{"broken problem", reply(500, "application/problem+json", `{"detail":`), "the server answered 500 Internal Server Error", ""},
		{"another server", reply(200, "text/html", "<html>"), "does not answer as a control plane", ""},
		{"endless", func(w http.ResponseWriter, _ *http.Request) { io.Copy(w, io.LimitReader(zeros{}, 17<<20)) }, "longer than", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newFakeControl(t, tt.answer).client(t, nil).Info(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the error repeats what it should not: %v", err)
			}
			var answer *client.Error
			if tt.code != "" && (!errors.As(err, &answer) || answer.Code != tt.code) {
				t.Errorf("error %#v, want code %s", err, tt.code)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := "http://" + l.Addr().String()
	l.Close()
	c, err := client.New(client.Config{Server: server, Token: control.Secret(canary)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Info(t.Context())
	var unreachable *client.UnreachableError
	if !errors.As(err, &unreachable) || unreachable.Server != server || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error %v, want UnreachableError of %s", err, server)
	}
}

func TestListsAreReadToTheirEnd(t *testing.T) {
	pages := func(w http.ResponseWriter, r *http.Request) {
		switch r.FormValue("after") {
		case "":
			io.WriteString(w, `{"items":[{"id":3},{"id":2}],"next":"two"}`)
		case "two":
			io.WriteString(w, `{"items":[{"id":1}]}`)
		}
	}
	for limit, want := range map[int]int{0: 3, 2: 2, 3: 3, 1000: 3} {
		events, err := newFakeControl(t, pages).client(t, nil).Audit(t.Context(), "acme", limit)
		if err != nil || len(events) != want {
			t.Errorf("limit %d: %d events, %v; want %d", limit, len(events), err, want)
		}
	}
	for name, body := range map[string]string{"same cursor": `{"items":[{}],"next":"x"}`, "empty page": `{"items":[],"next":"y"}`} {
		f := newFakeControl(t, reply(200, "application/json", body))
		if _, err := f.client(t, nil).Teams(t.Context()); err == nil || !strings.Contains(err.Error(), "does not end") {
			t.Errorf("%s: error %v, want an end", name, err)
		}
	}
}

// A name must stay one segment of the path, and an empty one must not turn the
// deletion of one thing into a call on the list.
func TestNamesStayInTheirSegment(t *testing.T) {
	f := newFakeControl(t, reply(204, "", ""))
	c := f.client(t, nil)
	for _, name := range []string{"", ".", ".."} {
		if err := c.DeleteVault(t.Context(), "acme", name); err == nil {
			t.Errorf("name %q was sent", name)
		}
	}
	if len(f.paths) != 0 {
		t.Fatalf("calls were made: %q", f.paths)
	}
	if err := c.DeleteVault(t.Context(), "acme", "../../teams?x=1#y"); err != nil {
		t.Fatal(err)
	}
	if want := "DELETE /v1/teams/acme/vaults/..%2F..%2Fteams%3Fx=1%23y"; f.paths[0] != want {
		t.Errorf("path %q, want %q", f.paths[0], want)
	}
}

func TestTheSecretIsInTheBodyAlone(t *testing.T) {
	f := newFakeControl(t, reply(201, "application/json", `{"name":"stripe","version":1}`))
	c := f.client(t, nil)
	secret := client.Outgoing{Secret: control.Secret(`s3cr<t"\é`)}
	new := client.NewCredential{Name: "stripe", Hosts: []string{"api.stripe.com"}, Secret: secret}
	if _, err := c.CreateCredential(t.Context(), "acme", "payments", new); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RotateCredential(t.Context(), "acme", "payments", "stripe", secret, 0, 0); err != nil {
		t.Fatal(err)
	}
	for i, body := range f.bodies {
		var sent struct{ Secret string }
		if err := json.Unmarshal([]byte(body), &sent); err != nil || sent.Secret != string(secret.Secret) {
			t.Errorf("call %d sent the secret as %q, %v", i, sent.Secret, err)
		}
		if strings.Contains(f.paths[i], "s3cr") {
			t.Errorf("the secret is in the path %q", f.paths[i])
		}
		if f.tokens[i] != "Bearer "+canary {
			t.Errorf("call %d had the authorization %q", i, f.tokens[i])
		}
	}
	var log bytes.Buffer
	once := client.NewSandbox{JoinToken: client.Once("s3cr")}
	slog.New(slog.NewTextHandler(&log, nil)).Info("made", "credential", new, "secret", secret, "token", once.JoinToken)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&log, format+format, new, once)
	}
	if strings.Contains(log.String(), "s3cr") || strings.Contains(log.String(), fmt.Sprintf("%x", "s3cr")) {
		t.Errorf("a secret was printed: %s", log.String())
	}
}

// A code that is sent to its server a second time voids what was given for it.
func TestCodeIsSentOnce(t *testing.T) {
	sent := make(chan bool, 8)
	f := newFakeControl(t, func(_ http.ResponseWriter, r *http.Request) {
		sent <- r.Header.Get("Idempotency-Key") != "" // with which net/http would send it again by itself
		panic(http.ErrAbortHandler)
	})
	c := f.client(t, nil)
	if _, err := c.LoginCredential(t.Context(), "acme", "v", "c", client.CredentialLogin{}); err == nil || len(sent) != 1 || <-sent {
		t.Errorf("%d more requests, or it had a name; error %v", len(sent), err)
	}
}
