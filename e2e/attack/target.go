package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The names that the attacks use. All that end in .bound.test lead to the address of
// hosts with a credential, all others elsewhere.
const (
	boundHost    = "api.bound.test"
	boundHTTP2   = "h2.bound.test"
	basicHost    = "basic.bound.test"
	queryHost    = "query.bound.test"
	wildcardHost = "*.wild.bound.test"
	elsewhere    = "evil.test"
)

// rebindings are names whose addresses are those of things that are not to be reached
// by a name from outside.
var rebindings = map[string][]string{
	"loopback.rebind.test": {"127.0.0.1"}, "loopback6.rebind.test": {"::1"}, "mapped.rebind.test": {"::ffff:127.0.0.1"},
	"metadata.rebind.test": {"169.254.169.254"}, "private10.rebind.test": {"10.0.0.1"}, "private172.rebind.test": {"172.16.0.1"},
	"private192.rebind.test": {"192.168.0.1"}, "unspecified.rebind.test": {"0.0.0.0"}, "unspecified6.rebind.test": {"::"},
	"shared.rebind.test": {"100.64.0.1"}, "local6.rebind.test": {"fe80::1"}, "unique6.rebind.test": {"fd00::1"},
	"nat64.rebind.test": {"64:ff9b::7f00:1"}, "sixtofour.rebind.test": {"2002:7f00:1::"}, "multicast.rebind.test": {"224.0.0.1"},
	"broadcast.rebind.test": {"255.255.255.255"}, "both.rebind.test": {"10.0.0.1", "127.0.0.1"},
}

// credential is what a target puts into requests for hosts.
type credential struct {
	name   string
	hosts  []string // each in one protocol upstream; perhaps a wildcard
	secret string
	user   string // of Basic; else it is Bearer
	query  string // it is this parameter instead
}

// rendered is the value of the field, or the parameter, that the host gets.
func (c credential) rendered() string {
	switch {
	case c.query != "":
		return url.QueryEscape(c.secret)
	case c.user != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.user+":"+c.secret))
	}
	return "Bearer " + c.secret
}

// decoy is a credential that is as much like another as can be, and is not it.
func (c credential) decoy() credential {
	c.secret = strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9':
			return '0' + (r-'0'+5)%10
		case r >= 'a' && r <= 'z':
			return 'a' + (r-'a'+13)%26
		case r >= 'A' && r <= 'Z':
			return 'A' + (r-'A'+13)%26
		}
		return r
	}, c.secret)
	return c
}

func (c credential) serves(host string) bool {
	for _, h := range c.hosts {
		if h == host {
			return true
		}
		label, parent, _ := strings.Cut(host, ".")
		if w, is := strings.CutPrefix(h, "*."); is && label != "" && parent == w {
			return true
		}
	}
	return false
}

// door is a way from a client to a target.
type door struct {
	name string
	// dial connects as a client does that was told to go to a host, by a name or an
	// address, and a port. An error is a refusal.
	dial func(ctx context.Context, address string) (net.Conn, error)
}

// target is what is attacked.
type target struct {
	sallyport   bool // with all that the attacks on it need: policy, audit, …
	credentials []credential
	doors       []door
	// proxy connects to the target as to a proxy, for other requests than CONNECT.
	proxy func(ctx context.Context) (net.Conn, error)
	roots *x509.CertPool // that clients believe
	// store stores another credential, for a host.
	store func(host string) error
	// audit gives the events so far of requests and connections.
	audit func() ([]audited, error)
}

// audited is an event of the audit log, as far as it is of interest.
type audited struct {
	Kind, Host, Path, Decision, Reason string
}

// credential gives one by its name.
func (t *target) credential(name string) (credential, bool) {
	for _, c := range t.credentials {
		if c.name == name {
			return c, true
		}
	}
	return credential{}, false
}

// finds gives the credential that a text tells, and how; "" if it tells none.
func (t *target) finds(text []byte) (credential, string) {
	var secrets []string
	for _, c := range t.credentials {
		secrets = append(secrets, c.secret)
	}
	which, how := finds(text, secrets...)
	if which < 0 {
		return credential{}, ""
	}
	return t.credentials[which], how
}

// throughProxy is the door of clients that send CONNECT.
func throughProxy(dial func(ctx context.Context) (net.Conn, error)) door {
	return door{"connect", func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", address, address)
		reader := bufio.NewReader(conn)
		response, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
		if err != nil {
			conn.Close()
			return nil, fmt.Errorf("CONNECT: %w", err)
		}
		if response.StatusCode != http.StatusOK {
			conn.Close()
			return nil, fmt.Errorf("CONNECT: %s", response.Status)
		}
		conn.SetDeadline(time.Time{})
		return &peeked{conn, reader}, nil
	}}
}

// patience bounds each wait for an answer.
const patience = 5 * time.Second

// handshake begins TLS as a client that believes what programs there do.
func (t *target) handshake(conn net.Conn, config *tls.Config) (*tls.Conn, error) {
	config.RootCAs = t.roots
	conn.SetDeadline(time.Now().Add(patience))
	secure := tls.Client(conn, config)
	if err := secure.Handshake(); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// client gives an HTTP client that goes through a door in one protocol.
func (t *target) client(d door, http2 bool) *http.Client {
	transport := &http.Transport{
		Protocols: new(http.Protocols), DisableCompression: true, MaxIdleConnsPerHost: 16, TLSClientConfig: &tls.Config{RootCAs: t.roots},
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return d.dial(ctx, address) },
		Proxy:       nil,
	}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetHTTP2(http2)
	return &http.Client{Transport: transport, Timeout: 4 * patience}
}

// foreign is a proxy of somebody else's, which clients CONNECT to.
type foreign struct {
	url    string
	hosts  string // by commas
	secret string
	user   string
	ca     string // file
}

func (f foreign) target() (*target, error) {
	address, err := url.Parse(f.url)
	if err != nil || address.Scheme != "http" || address.Port() == "" {
		return nil, fmt.Errorf("-target: want http://HOST:PORT, got %q", f.url)
	}
	if f.secret == "" || f.ca == "" {
		return nil, errors.New("-target needs -secret and -target-ca too")
	}
	roots, err := readRoots(f.ca)
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address.Host)
	}
	return &target{
		credentials: []credential{{name: "api", hosts: strings.Split(f.hosts, ","), secret: f.secret, user: f.user}},
		doors:       []door{throughProxy(dial)}, proxy: dial, roots: roots,
	}, nil
}

// atAddress gives an address to dial in a sandbox instead of a name.
func atAddress(ip string, port int) string { return net.JoinHostPort(ip, strconv.Itoa(port)) }

// received is all that a client read of an answer, as one text.
func received(response *http.Response, interim []http.Header, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, response.Status)
	for _, fields := range append(interim, response.Header, response.Trailer) {
		for name, values := range fields {
			for _, value := range values {
				io.WriteString(&b, name+": "+value+"\n")
			}
		}
	}
	b.WriteByte('\n')
	b.Write(body)
	return b.Bytes()
}
