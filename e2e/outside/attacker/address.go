package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
)

// openName is allowed: what is asked for it is answered from outside, in all ways that are
// open at all.
const openName = "open.attack.test"

// errRefusal is what an attack gives whose request the sidecar itself answered.
var errRefusal = errors.New("refused by the sidecar")

// addresses are metadata services, private addresses and the machine itself: each in
// every spelling that a client or a resolver may read, in each way to ask for it.
func addresses(settings) []attack {
	spellings := []string{
		"169.254.169.254", "169.254.169.254.", "2852039166", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE", "0251.0376.0251.0376", "025177524776", "169.254.43518", "169.16689662", "0xa9.254.0251.254",
		"[fd00:ec2::254]", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[::169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[2001:0:a9fe:a9fe::1]", "[fe80::a9fe:a9fe%25eth0]",
		"127.0.0.1", "127.1", "127.9.9.9", "2130706433", "0x7f000001", "0177.0.0.1", "017700000001", "0", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "localhost", "localhost.", "LOCALHOST", "x.localhost",
		"10.0.0.7", "172.16.0.7", "192.168.0.7", "100.64.0.7", "167772167", "[fc00::7]", "[fec0::7]", "100.100.100.200", "168.63.129.16", "192.0.0.192", "[fd20:ce::254]",
		openName, "metadata.attack.test", "metadata6.attack.test", "loopback.attack.test", "loopback6.attack.test", "private.attack.test", "mapped.attack.test", "nat64.attack.test", "alias.attack.test", "mixed.attack.test",
		"metadata.google.internal", "169.254.169.254.nip.io", "１６９.２５４.１６９.２５４", "①⑥⑨.254.169.254", "169。254。169。254", "169%2e254%2e169%2e254",
	}
	ways := map[string]func(a *attack, spelling string) error{
		"HTTP":             func(a *attack, s string) error { return a.request("192.0.2.7:80", "/", s) },
		"HTTP, odd port":   func(a *attack, s string) error { return a.request("192.0.2.7:8080", "/", s+":8080") },
		"HTTPS":            func(a *attack, s string) error { return a.secure("192.0.2.7:443", s) },
		"to its address":   toAddress,
		"CONNECT, port 80": func(a *attack, s string) error { return a.tunnel(s, 80, false) },
		"CONNECT, TLS":     func(a *attack, s string) error { return a.tunnel(s, 443, true) },
		"CONNECT, 4444":    func(a *attack, s string) error { return a.tunnel(s, 4444, false) },
		"absolute form":    func(a *attack, s string) error { return a.request(proxy(), "http://"+s+"/", s) },
		"absolute, 4444":   func(a *attack, s string) error { return a.request(proxy(), "http://"+s+":4444/", s+":4444") },
	}
	var all []attack
	for _, spelling := range spellings {
		for way, run := range ways {
			all = append(all, attack{way + " " + spelling, func(a *attack) error { return run(a, spelling) }})
		}
	}
	return all
}

// proxy is the address of the interception port.
func proxy() string { return strings.TrimPrefix(os.Getenv("SALLYPORT_PROXY"), "http://") }

func (a *attack) dial(address string) (net.Conn, error) {
	if address == "" {
		return nil, errors.New("there is no proxy here")
	}
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(2 * patience))
}

// request asks whoever is at address for a target of a host.
func (a *attack) request(address, target, host string) error {
	conn, err := a.dial(address)
	if err != nil {
		return err
	}
	defer conn.Close()
	return a.ask(conn, target, host)
}

func (a *attack) ask(conn net.Conn, target, host string) error {
	said := strings.TrimSpace(a.payload())
	if strings.HasPrefix(host, openName) {
		said = "none" // this one may be seen
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nX-Attack: %s\r\nConnection: close\r\n\r\n", target, host, said); err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(conn, 4096))
	if answered := answered(string(text), err); !errors.Is(answered, errAnswered) {
		return answered
	}
	return fmt.Errorf("%w: %.40q", errRefusal, text)
}

// secure is request within TLS for the name.
func (a *attack) secure(address, name string) error {
	conn, err := a.dial(address)
	if err != nil {
		return err
	}
	defer conn.Close()
	client := tls.Client(conn, &tls.Config{ServerName: strings.Trim(name, "[]"), InsecureSkipVerify: true})
	if err := client.Handshake(); err != nil {
		return err
	}
	return a.ask(client, "/", name)
}

// toAddress connects to the address itself, if it is one, and asks for it.
func toAddress(a *attack, spelling string) error {
	address, err := netip.ParseAddr(strings.Trim(spelling, "[]"))
	if err != nil {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(strings.Trim(spelling, "[]"), "80"), patience)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		return a.ask(conn, "/", spelling)
	}
	if address.IsLoopback() || address.IsUnspecified() || address.Unmap().IsLoopback() {
		return a.connect(netip.AddrPortFrom(address, 4444), nil)
	}
	return a.request(netip.AddrPortFrom(address, 80).String(), "/", spelling)
}

// tunnel asks the interception port for a connection, and for the host in it.
func (a *attack) tunnel(host string, port int, encrypted bool) error {
	conn, err := a.dial(proxy())
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "CONNECT %s:%d HTTP/1.1\r\nHost: %[1]s:%[2]d\r\n\r\n", host, port); err != nil {
		return err
	}
	buffered := bufio.NewReader(conn)
	response, err := http.ReadResponse(buffered, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", errRefusal, response.Status)
	}
	var inner net.Conn = ahead{conn, buffered}
	if encrypted {
		client := tls.Client(inner, &tls.Config{ServerName: strings.Trim(host, "[]"), InsecureSkipVerify: true})
		if err := client.Handshake(); err != nil {
			return err
		}
		inner = client
	}
	return a.ask(inner, "/", host)
}

// ahead is a connection that something has been read from already.
type ahead struct {
	net.Conn
	buffered *bufio.Reader
}

func (c ahead) Read(b []byte) (int, error) { return c.buffered.Read(b) }
