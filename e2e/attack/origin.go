package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// ports are those that origins listen at. Each takes TLS and plain text.
var ports = []int{443, 80, 8443}

// origins are the servers at two addresses of loopback: one of the hosts that a
// credential is for, one of everybody else. They keep all that arrives. A name that
// begins with h2 is served over HTTP/2 only, another over HTTP/1.1 only.
type origins struct {
	bound, elsewhere string // IP addresses
	authority        *authority
	mirror           http.Handler // of /reflect/

	servers []io.Closer
	ending  sync.WaitGroup

	mu       sync.Mutex
	arrivals []*arrival
	conns    map[*conn]bool
	leaves   map[string]*tls.Certificate
	fault    string // of the bound hosts' address
}

// arrival is a request, or bytes, that came to an origin.
type arrival struct {
	place string // IP address
	port  int
	sni   string
	tls   bool

	request *http.Request // nil where it is the raw bytes of a connection
	body    string
	raw     []byte
}

func (a *arrival) String() string {
	what := "bytes"
	if a.request != nil {
		what = fmt.Sprintf("%s %s of host %q", a.request.Method, a.request.RequestURI, a.request.Host)
	}
	return fmt.Sprintf("%s came to %s port %d (TLS %t, name %q)", what, a.place, a.port, a.tls, a.sni)
}

// text is all that a request says, in no special form, or the raw bytes.
func (a *arrival) text() []byte {
	if a.request == nil {
		return a.raw
	}
	var b strings.Builder
	fmt.Fprintln(&b, a.request.Method, a.request.Host, a.request.RequestURI)
	for _, fields := range []http.Header{a.request.Header, a.request.Trailer} {
		fields.Write(&b) // never fails
	}
	return []byte(b.String() + "\n" + a.body)
}

// conn is a connection to an origin, what was read of it kept.
type conn struct {
	net.Conn
	arrival
	mu    sync.Mutex
	http2 bool // its bytes are compressed, and all of them become requests
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	const most = 64 << 10
	c.http2 = c.http2 || bytes.HasPrefix(p[:n], []byte("PRI * HTTP/2.0"))
	c.raw = append(c.raw, p[:min(n, max(0, most-len(c.raw)))]...)
	return n, err
}

func newOrigins(bound, elsewhere string, a *authority) *origins {
	return &origins{bound: bound, elsewhere: elsewhere, authority: a, conns: map[*conn]bool{}, leaves: map[string]*tls.Certificate{}}
}

// start listens at both addresses. DNS at the first one leads everywhere.
func (o *origins) start() error {
	for _, address := range []string{o.bound, o.elsewhere} {
		for _, port := range ports {
			listener, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
			if err != nil {
				o.close()
				return err
			}
			ready := &handed{Listener: listener, conns: make(chan net.Conn), done: make(chan struct{})}
			server := &http.Server{Handler: o, Protocols: new(http.Protocols), ErrorLog: log.New(io.Discard, "", 0), ConnContext: func(ctx context.Context, c net.Conn) context.Context {
				return context.WithValue(ctx, connKey{}, c)
			}}
			server.Protocols.SetHTTP1(true)
			server.Protocols.SetUnencryptedHTTP2(true) // TLS has ended before
			o.servers = append(o.servers, server, ready)
			o.ending.Go(func() { server.Serve(ready) })
			o.ending.Go(func() { o.accept(listener, ready, arrival{place: address, port: port}) })
		}
	}
	packets, err := net.ListenPacket("udp", net.JoinHostPort(o.bound, "53"))
	if err != nil {
		o.close()
		return err
	}
	o.servers = append(o.servers, packets)
	o.ending.Go(func() { dns.ActivateAndServe(nil, packets, dns.HandlerFunc(o.resolve)) })
	return nil
}

func (o *origins) close() {
	for _, s := range o.servers {
		s.Close()
	}
	o.hangUp()
	o.ending.Wait()
}

type connKey struct{}

// handed is a listener of connections that another has accepted.
type handed struct {
	net.Listener
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.once.Do(func() { close(h.done) })
	return h.Listener.Close()
}

func (o *origins) accept(listener net.Listener, ready *handed, facts arrival) {
	for {
		raw, err := listener.Accept()
		if err != nil {
			return
		}
		o.ending.Go(func() {
			c, err := o.receive(raw, facts)
			if err != nil {
				raw.Close()
				return
			}
			select {
			case ready.conns <- c:
			case <-ready.done:
				c.Close()
			}
		})
	}
}

// receive ends TLS, where there is any, and keeps the connection in mind.
func (o *origins) receive(raw net.Conn, facts arrival) (*conn, error) {
	c := &conn{Conn: raw, arrival: facts}
	o.mu.Lock()
	o.conns[c] = true
	fault := ""
	if facts.place == o.bound && facts.port == 443 {
		fault = o.fault
	}
	o.mu.Unlock()
	switch fault {
	case "closes":
		return nil, errors.New("closed as told")
	case "garbage":
		io.WriteString(raw, "SSH-2.0-no\r\n")
		return nil, errors.New("garbage as told")
	}
	buffered := &peeked{Conn: raw, reader: bufio.NewReader(raw)}
	c.Conn = buffered
	first, err := buffered.reader.Peek(1)
	if err != nil {
		return nil, err
	}
	const handshake = 0x16 // RFC 8446 section 5.1
	if first[0] != handshake {
		return c, nil
	}
	if fault == "plain-http" {
		io.WriteString(raw, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		return c, nil
	}
	secure := tls.Server(buffered, o.config(fault))
	if err := secure.Handshake(); err != nil {
		return nil, err
	}
	c.Conn, c.tls, c.sni = secure, true, secure.ConnectionState().ServerName
	return c, nil
}

// peeked is a connection of which something was read ahead.
type peeked struct {
	net.Conn
	reader *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.reader.Read(b) }

func (o *origins) config(fault string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS10, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		leaf, err := o.leaf(fault, hello.ServerName)
		if err != nil {
			return nil, err
		}
		config := &tls.Config{Certificates: []tls.Certificate{*leaf}, MinVersion: tls.VersionTLS10, SessionTicketsDisabled: true, NextProtos: []string{"http/1.1"}}
		switch {
		case fault == "tls-1.0":
			config.MaxVersion = tls.VersionTLS10
		case fault == "tls-1.1":
			config.MaxVersion = tls.VersionTLS11
		case strings.HasPrefix(hello.ServerName, "h2"):
			// Go's server would let a client that offers HTTP/1.1 alone have it without ALPN.
			config.NextProtos = []string{"none"}
			if slices.Contains(hello.SupportedProtos, "h2") {
				config.NextProtos = []string{"h2"}
			}
		}
		return config, nil
	}}
}

func (o *origins) leaf(fault, name string) (*tls.Certificate, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := fault + "/" + name
	if leaf := o.leaves[key]; leaf != nil {
		return leaf, nil
	}
	leaf, err := o.authority.faulty(fault, name)
	if err == nil {
		o.leaves[key] = leaf
	}
	return leaf, err
}

// breakWith makes the bound hosts' port 443 faulty from its next connection on.
func (o *origins) breakWith(fault string) {
	o.mu.Lock()
	o.fault = fault
	o.mu.Unlock()
	o.hangUp()
}

// hangUp closes every connection, so that the next request needs another.
func (o *origins) hangUp() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.conns {
		c.Close()
		delete(o.conns, c)
	}
}

// resolve answers queries: with the address of the bound hosts for those names, with
// answers that no host of the internet has for those that rebind, and with the address
// of everybody else.
func (o *origins) resolve(w dns.ResponseWriter, query *dns.Msg) {
	reply := new(dns.Msg).SetReply(query)
	question := query.Question[0]
	name := strings.ToLower(strings.TrimSuffix(question.Name, "."))
	addresses := []string{o.elsewhere}
	if address, found := rebindings[name]; found {
		addresses = address
	} else if strings.HasSuffix(name, ".bound.test") {
		addresses = []string{o.bound}
	}
	for _, text := range addresses {
		header := dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: 0}
		switch ip := net.ParseIP(text); {
		case question.Qtype == dns.TypeA && ip.To4() != nil && !strings.Contains(text, ":"):
			reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: ip})
		case question.Qtype == dns.TypeAAAA && strings.Contains(text, ":"):
			reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: header, AAAA: ip})
		}
	}
	w.WriteMsg(reply) // a client that hears nothing asks again
}

// originHeader is in every answer of an origin.
const originHeader = "X-Origin"

func (o *origins) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if o.mirror != nil && strings.HasPrefix(r.URL.Path, "/reflect/") {
		o.mirror.ServeHTTP(w, r)
		return
	}
	body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10)) // what came of it is kept all the same
	c := r.Context().Value(connKey{}).(*conn)
	kept := &arrival{place: c.place, port: c.port, sni: c.sni, tls: c.tls, request: r, body: string(body)}
	o.mu.Lock()
	o.arrivals = append(o.arrivals, kept)
	o.mu.Unlock()
	w.Header().Set(originHeader, c.place)
	if to := r.URL.Query().Get("to"); r.URL.Path == "/redirect" {
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.Header().Set("Location", to)
		w.WriteHeader(status)
		return
	}
	io.WriteString(w, "ok\n") // a client that is gone needs no answer
}

// take gives what has arrived since it was last asked. What is raw is there beside the
// requests that were made of it.
func (o *origins) take() []*arrival {
	o.mu.Lock()
	defer o.mu.Unlock()
	taken := o.arrivals
	o.arrivals = nil
	for c := range o.conns {
		c.mu.Lock()
		if len(c.raw) > 0 && !c.http2 {
			copied := c.arrival
			copied.raw = c.raw
			taken = append(taken, &copied)
		}
		c.raw = nil
		c.mu.Unlock()
	}
	return taken
}
