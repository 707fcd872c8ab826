package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"sync"

	"sallyport/netsetup"
	"sallyport/sidecar/mint"
)

// sealedRole seals a namespace, starts the client in it, and is one of the bare
// proxies outside: splice (TCP), floor (TLS, looking at nothing) or reverse (net/http).
// Its arguments are which, the origin's address, its authorities, where to write its
// own, and the client's route.
func sealedRole(args []string) error {
	namespace, err := netsetup.Seal(context.Background(), netsetup.Config{})
	if err != nil {
		return err
	}
	defer namespace.Close()
	authority, err := mint.New()
	if err != nil {
		return err
	}
	if err := os.WriteFile(args[3], authority.CertificatePEM(), 0o644); err != nil {
		return err
	}
	roots, err := readRoots(args[2])
	if err != nil {
		return err
	}
	p := bareProxy{
		origin: args[1], roots: roots,
		server: &tls.Config{NextProtos: []string{"h2", "http/1.1"}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return authority.Leaf(hello.Context(), hello.ServerName)
		}},
	}
	switch args[0] {
	case "splice":
		go p.each(namespace.TCP(), p.splice)
	case "floor":
		go p.each(namespace.TCP(), p.floor)
	case "reverse":
		go p.reverse(namespace.TCP())
	default:
		return fmt.Errorf("there is no bare proxy %q", args[0])
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "client", args[4])
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := namespace.Do(cmd.Start); err != nil {
		return err
	}
	return cmd.Wait()
}

func readRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM", file)
	}
	return roots, nil
}

type bareProxy struct {
	origin string
	roots  *x509.CertPool
	server *tls.Config
}

func (p *bareProxy) each(listener net.Listener, handle func(net.Conn) error) {
	for {
		inner, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer inner.Close()
			if err := handle(inner); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
				fmt.Fprintln(os.Stderr, "sealed:", err)
			}
		}()
	}
}

// splice joins two TCP connections; io.Copy does it by splice(2).
func (p *bareProxy) splice(inner net.Conn) error {
	outer, err := net.Dial("tcp", p.origin)
	if err != nil {
		return err
	}
	defer outer.Close()
	return join(inner.(*net.TCPConn), outer.(*net.TCPConn))
}

// floor joins two TLS connections that speak the same protocol.
func (p *bareProxy) floor(raw net.Conn) error {
	inner := tls.Server(raw, p.server)
	if err := inner.Handshake(); err != nil {
		return err
	}
	state := inner.ConnectionState()
	config := &tls.Config{RootCAs: p.roots, ServerName: state.ServerName, NextProtos: []string{state.NegotiatedProtocol}}
	outer, err := tls.Dial("tcp", p.origin, config)
	if err != nil {
		return err
	}
	defer outer.Close()
	return join(inner, outer)
}

type halfCloser interface {
	net.Conn
	CloseWrite() error
}

func join(inner, outer halfCloser) error {
	var up, down error
	var both sync.WaitGroup
	pass := func(to, from halfCloser, err *error) {
		_, *err = io.Copy(to, from)
		to.CloseWrite() // the other side may be gone
	}
	both.Go(func() { pass(outer, inner, &up) })
	both.Go(func() { pass(inner, outer, &down) })
	both.Wait()
	return errors.Join(up, down)
}

// reverse is net/http's ReverseProxy with its connections kept and its buffers pooled.
func (p *bareProxy) reverse(listener net.Listener) {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "https", r.In.Host
		},
		Transport:  keepingTransport(p.origin, p.roots),
		BufferPool: make(buffers, 256),
		ErrorLog:   log.New(os.Stderr, "reverse: ", 0),
	}
	server := &http.Server{Handler: proxy, TLSConfig: p.server, ErrorLog: proxy.ErrorLog}
	server.ServeTLS(listener, "", "") // ends with the process
}

// keepingTransport dials the origin whatever the name, and keeps every connection.
func keepingTransport(origin string, roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", origin)
		},
		TLSClientConfig:     &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 1 << 17,
		DisableCompression:  true,
	}
}

// buffers are given back and taken again.
type buffers chan []byte

func (b buffers) Get() []byte {
	select {
	case buffer := <-b:
		return buffer
	default:
		return make([]byte, 32<<10)
	}
}

func (b buffers) Put(buffer []byte) {
	select {
	case b <- buffer:
	default:
	}
}
