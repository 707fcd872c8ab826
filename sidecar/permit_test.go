package sidecar

import (
	"bufio"
	"context"
	"crypto/hpke"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"sallyport/control/api"
	"sallyport/sidecar/audit"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/identity"
	"sallyport/sidecar/inject"
	"sallyport/sidecar/material"
	"sallyport/sidecar/mint"
	"sallyport/sidecar/proxy"
	"sallyport/sidecar/scan"
	"sallyport/sidecar/strict"
)

// arrival is a request as an upstream saw it.
type arrival struct {
	bind.Request
	credential string // id of the one it bears; empty for none
	text       string
}

// door is a worker's requests from the proxy on: what is before it tells the facts
// of a connection, what is behind it are upstreams that this test plays.
type door struct {
	worker  *worker
	clients chan net.Conn
	trust   *mint.Authority

	mu      sync.Mutex
	facts   map[net.Conn]proxy.Facts
	arrived []arrival
}

// leasing is a control plane that leases "token-of-ID" for every credential, and of
// "two" a key that signs.
type leasing struct{ key hpke.PrivateKey }

func (l leasing) Fetch(_ context.Context, r *connect.Request[api.FetchRequest]) (*connect.Response[api.FetchResponse], error) {
	token := []byte("token-of-" + r.Msg.GetCredentialId())
	if r.Msg.GetCredentialId() == "two" {
		var err error
		if token, err = signingKeys().Marshal(); err != nil {
			return nil, err
		}
	}
	sealed, err := api.SealMaterial(l.key.PublicKey().Bytes(), r.Msg.GetCredentialId(), r.Msg.GetVersion(), api.Material{Token: token})
	if err != nil {
		return nil, err
	}
	response := connect.NewResponse(&api.FetchResponse{
		Version: r.Msg.GetVersion(), Sealed: sealed, LeaseId: "lease",
		FreshUntil: timestamppb.New(time.Now().Add(time.Hour)), HardExpiry: timestamppb.New(time.Now().Add(2 * time.Hour)),
	})
	response.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	return response, nil
}

func newDoor(t *testing.T) *door {
	key, err := api.GenerateSealKey()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	d := &door{clients: make(chan net.Conn), facts: make(map[net.Conn]proxy.Facts)}
	if d.trust, err = mint.New(); err != nil {
		t.Fatal(err)
	}
	d.worker = &worker{log: log, identity: new(identity.Identity), heard: make(chan struct{}), bodies: inject.NewBudget(1 << 20), leases: material.NewCache(leasing{key}, key, log), events: audit.New(audit.Config{Capacity: 100, Journal: make([]byte, audit.JournalSize(100)), Log: log})}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(d.trust.CertificatePEM())
	server := proxy.New(proxy.Config{
		Facts: d.factsOf, Plan: d.worker.plan, Explain: explain, Roots: roots, Log: log,
		Dial: func(_ context.Context, _ string, port uint16) (net.Conn, error) { return d.upstream(port), nil },
		Finish: func(x *proxy.Exchange, _ error) {
			if x.Credential != "" {
				d.worker.events.Cancel() // nobody records here
			}
		},
		Tunnel: func(_ context.Context, c net.Conn, host string, port uint16) {
			name, err := api.NormalizeHost(host)
			if err != nil {
				c.Close()
				return
			}
			d.enter(c, proxy.Facts{SNI: name, Port: port}) // as the gate does with what is in a CONNECT
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(ctx, d); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	serving.Go(func() {
		if err := d.worker.leases.Run(ctx); err != nil {
			t.Errorf("leases: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); close(d.clients); serving.Wait() })
	return d
}

func (d *door) Accept() (net.Conn, error) {
	c, ok := <-d.clients
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (d *door) Close() error   { return nil }
func (d *door) Addr() net.Addr { return new(net.TCPAddr) }

func (d *door) factsOf(c net.Conn) proxy.Facts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.facts[c]
}

// enter is a connection that passed the gate.
func (d *door) enter(c net.Conn, facts proxy.Facts) {
	if !facts.HTTP2 {
		c = strict.NewConn(c, strict.Limits{Proxy: facts.Direct})
	}
	d.mu.Lock()
	d.facts[c] = facts
	d.mu.Unlock()
	d.clients <- c
}

// upstream is a connection to whatever is at a port, which notes what arrives.
func (d *door) upstream(port uint16) net.Conn {
	ours, theirs := net.Pipe()
	go func() {
		defer ours.Close()
		r := bufio.NewReader(ours)
		first, err := r.Peek(1)
		if err != nil {
			return
		}
		var c net.Conn = &read{ours, r}
		secure := first[0] == 0x16
		if secure {
			c = tls.Server(c, &tls.Config{NextProtos: []string{"http/1.1"}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				return d.trust.Leaf(hello.Context(), hello.ServerName)
			}})
			r = bufio.NewReader(c)
		}
		note := func(request *http.Request) {
			host, _, _ := strings.Cut(request.Host, ":")
			path, _, _ := strings.Cut(request.RequestURI, "?")
			credential, ours := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer token-of-")
			if !ours {
				credential = signerOf(request)
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			d.arrived = append(d.arrived, arrival{
				bind.Request{Host: host, Port: port, TLS: secure, Method: request.Method, Path: path}, credential,
				fmt.Sprint(request.Method, " ", request.RequestURI, request.Header),
			})
		}
		if preface, err := r.Peek(3); err == nil && string(preface) == "PRI" {
			serveHTTP2(&read{c, r}, note)
			return
		}
		request, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		note(request)
		_, _ = io.Copy(io.Discard, request.Body)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	}()
	return theirs
}

// serveHTTP2 answers the requests of a connection that speaks HTTP/2 without TLS.
func serveHTTP2(c net.Conn, note func(*http.Request)) {
	server := &http.Server{
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { note(r) }), Protocols: new(http.Protocols),
	}
	server.Protocols.SetUnencryptedHTTP2(true)
	_ = server.Serve(&single{Conn: c, closed: make(chan struct{})}) // until the connection is closed
}

// single is a listener with one connection, which is that connection too.
type single struct {
	net.Conn
	taken  bool
	closed chan struct{}
	once   sync.Once
}

func (s *single) Accept() (net.Conn, error) {
	if !s.taken {
		s.taken = true
		return s, nil
	}
	<-s.closed
	return nil, net.ErrClosed
}

func (s *single) Addr() net.Addr { return s.LocalAddr() }

func (s *single) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.Conn.Close()
}

// read is a connection of which the begin was read already.
type read struct {
	net.Conn
	from io.Reader
}

func (r *read) Read(p []byte) (int, error) { return r.from.Read(p) }

// say is a client that sends text and waits until the connection is closed.
func (d *door) say(facts proxy.Facts, text string) {
	client, server := net.Pipe()
	d.enter(server, facts)
	go func() { _, _ = io.WriteString(client, text) }()
	_ = client.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.Copy(io.Discard, client)
	client.Close()
}

// ask is a client of HTTP/2.
func (d *door) ask(facts proxy.Facts, method, host, target string, header http.Header) {
	facts.HTTP2 = true
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		d.enter(server, facts)
		return client, nil
	}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequest(method, "http://a.test/", nil)
	if err != nil {
		return
	}
	r.Host, r.URL.Opaque, r.Header = host, target, header
	if response, err := transport.RoundTrip(r); err == nil {
		response.Body.Close()
	}
}

// TestInjectionIsEnforcement: whatever the policy and the bindings are and however a
// client asks, what arrives upstream is what the policy permits, as it arrives: the
// same host, port, method and path. The credential it bears, if any, or that signed it
// as it arrives, is the one of the binding that this very request has, and within the
// limits of that.
func TestInjectionIsEnforcement(t *testing.T) {
	d := newDoor(t)
	hosts := []string{"a.test", "b.test", "x.a.test", "A.Test.", "c.test"}
	paths := []string{"/", "/v1", "/v1/a", "/v1%2Fa", "/v1%2fa|", "/V1/a", "/v1/../admin", "/v1/%2e%2e/admin", "//v1", "/v1;x/a", "/admin", "/admin%2F\"", "/%61dmin", "/v1/a?x=/admin", "/v1/a\\b", "/v1/\u00e9", "http://b.test/v1", "/v1/!'()*", "/v1/{a}/%2F"}
	methods := []string{"GET", "POST", "DELETE", "get", "TRACE", "OPTIONS", "HEAD"}
	rapid.Check(t, func(t *rapid.T) {
		table := drawTable(t)
		d.mu.Lock()
		d.arrived = nil
		d.mu.Unlock()
		versions := make(map[string]uint64)
		for _, id := range []string{"one", "two"} {
			versions[id] = 1
		}
		d.worker.leases.Replace(versions, func() { d.worker.served.Store(&served{table: table, scanner: scan.New(table.Placeholders())}) })

		port := rapid.SampledFrom([]uint16{443, 80, 8443}).Draw(t, "port")
		facts := proxy.Facts{Port: port, TLS: rapid.Bool().Draw(t, "tls")}
		host, target, method := rapid.SampledFrom(hosts).Draw(t, "host"), rapid.SampledFrom(paths).Draw(t, "target"), rapid.SampledFrom(methods).Draw(t, "method")
		if facts.TLS {
			facts.SNI = rapid.SampledFrom([]string{"a.test", "b.test", "x.a.test"}).Draw(t, "sni")
		}
		extra := rapid.SampledFrom([]string{
			"", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
			"X-Original-URL: /admin\r\n", "X-HTTP-Method-Override: DELETE\r\n", "Connection: authorization, host, close\r\n", "Authorization: Bearer vault:one\r\n",
		}).Draw(t, "extra")
		request := method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + extra
		if !strings.Contains(extra, "Connection") {
			request += "Connection: close\r\n"
		}
		request += "\r\n"
		if strings.Contains(extra, "Upgrade") {
			request += "GET /v1 HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n" // and one more behind it
		}
		switch rapid.SampledFrom([]string{"http1", "http2", "absolute", "connect"}).Draw(t, "way") {
		case "http1":
			d.say(facts, request)
		case "http2":
			d.ask(facts, method, host, target, http.Header{})
		case "absolute":
			d.say(proxy.Facts{Direct: true}, strings.Replace(request, " "+target, fmt.Sprintf(" http://%s:%d%s", host, port, target), 1))
		case "connect":
			d.say(proxy.Facts{Direct: true}, fmt.Sprintf("CONNECT %s:%d HTTP/1.1\r\nHost: %s:%d\r\n\r\n%s", host, port, host, port, request))
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, a := range d.arrived {
			permitted, err := table.Permit(a.Request)
			if err != nil {
				t.Fatalf("%s arrived at %+v: %v", a.text, a.Request, err)
			}
			binding, err := permitted.Binding()
			if err != nil || binding.GetCredentialId() != a.credential {
				t.Fatalf("%s arrived at %+v with %q; the binding is %q, %v", a.text, a.Request, a.credential, binding.GetCredentialId(), err)
			}
			if binding == nil {
				continue
			}
			if _, err := permitted.Use(binding, time.Now()); err != nil {
				t.Fatalf("%s arrived at %+v with %q: %v", a.text, a.Request, a.credential, err)
			}
		}
	})
}

// drawTable draws bindings and a policy about the hosts and paths that are asked for.
func drawTable(t *rapid.T) *bind.Table {
	var bindings []*api.Binding
	bearer := []*api.Rule{{Place: &api.Rule_Header_{Header: &api.Rule_Header{Name: "Authorization", Template: "Bearer {{token}}"}}}}
	rules := map[string][]*api.Rule{"one": bearer, "two": {{Place: &api.Rule_Sigv4{Sigv4: &api.Rule_SigV4{}}}}}
	patterns := rapid.SampledFrom([]string{"a.test", "b.test", "*.a.test", "a.test:8443", "b.test:80"})
	for _, id := range []string{"one", "two"} {
		if rapid.Bool().Draw(t, "bound "+id) {
			bindings = append(bindings, &api.Binding{
				CredentialId: id, Vault: "v", Name: id, Version: 1, Hosts: rapid.SliceOfN(patterns, 1, 2).Draw(t, "hosts of "+id), Inject: rules[id],
				AllowHttp: rapid.Bool().Draw(t, "allow_http"), AllowWebsocket: rapid.Bool().Draw(t, "allow_websocket"),
				Limits: drawLimits(t),
			})
		}
	}
	actions := rapid.SampledFrom([]api.Action{api.Action_ACTION_INSPECT, api.Action_ACTION_DENY})
	policy := &api.Policy{Default: actions.Draw(t, "default")}
	for range rapid.IntRange(0, 3).Draw(t, "rules") {
		policy.Rules = append(policy.Rules, &api.PolicyRule{
			Action:  actions.Draw(t, "action"),
			Hosts:   rapid.SliceOfN(rapid.SampledFrom([]string{"a.test", "b.test", "**.test", "*.a.test"}), 0, 2).Draw(t, "hosts"),
			Ports:   rapid.SampledFrom([][]uint32{nil, {80}, {443, 8443}}).Draw(t, "ports"),
			Methods: rapid.SampledFrom([][]string{nil, {"GET"}, {"DELETE", "POST"}}).Draw(t, "methods"),
			Paths:   rapid.SampledFrom([][]string{nil, {"/v1"}, {"/admin"}, {"/v1/a", "/admin"}}).Draw(t, "paths"),
		})
	}
	table, err := bind.New(bindings, nil, policy)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// drawLimits draws methods, paths and an end.
func drawLimits(t *rapid.T) *api.Limits {
	if rapid.Bool().Draw(t, "unlimited") {
		return nil
	}
	l := &api.Limits{
		Methods: rapid.SampledFrom([][]string{nil, {"GET"}, {"DELETE", "POST"}}).Draw(t, "limit methods"),
		Paths:   rapid.SampledFrom([][]string{nil, {"/v1"}, {"/v1/a", "/admin"}}).Draw(t, "limit paths"),
	}
	if ends := rapid.SampledFrom([]time.Duration{0, -time.Hour, time.Hour}).Draw(t, "ends"); ends != 0 {
		l.Expires = timestamppb.New(time.Now().Add(ends))
	}
	return l
}
