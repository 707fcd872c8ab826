package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
)

// Origin makes an address of loopback the upstream of host: at port 443, or at
// 80 if plain.
func (w *World) Origin(host string, plain bool, address string) {
	port := 443
	if plain {
		port = 80
	}
	w.origins = append(w.origins, fmt.Sprintf("%s:%d:%s", host, port, address))
}

// OriginAt makes an address of loopback the upstream of host at any port.
func (w *World) OriginAt(host string, port int, address string) {
	w.origins = append(w.origins, fmt.Sprintf("%s:%d:%s", host, port, address))
}

// Certificate gives a certificate for host, and more names, and its key, as PEM files.
func (w *World) Certificate(host string, more ...string) (certificate, key string) {
	w.t.Helper()
	certificate, key = filepath.Join(w.Dir, host+".pem"), filepath.Join(w.Dir, host+".key")
	certificatePEM, keyPEM := w.authority.issue(append([]string{host}, more...)...)
	w.must(os.WriteFile(certificate, certificatePEM, 0o600))
	w.must(os.WriteFile(key, keyPEM, 0o600))
	return certificate, key
}

// OriginServer makes host an upstream that the test itself plays, by net/http with TLS.
// protocols are those of ALPN that it offers.
func (w *World) OriginServer(host string, handler http.Handler, protocols ...string) *httptest.Server {
	w.t.Helper()
	certificate, err := tls.LoadX509KeyPair(w.Certificate(host))
	w.must(err)
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	for _, protocol := range protocols {
		if protocol == "h2" {
			server.EnableHTTP2 = true
			server.Config.Protocols.SetHTTP2(true)
		}
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: protocols}
	if !slices.Contains(protocols, "http/1.1") {
		// Go's server would speak it all the same, as if the client had not offered it.
		deaf := &tls.Config{Certificates: server.TLS.Certificates, NextProtos: []string{"none"}}
		server.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if slices.Contains(hello.SupportedProtos, "h2") {
				return nil, nil
			}
			return deaf, nil
		}
	}
	server.StartTLS()
	w.t.Cleanup(server.Close)
	w.Origin(host, false, server.Listener.Addr().String())
	return server
}

// PlainOriginServer is OriginServer without TLS, in HTTP/1.1 and, where the client begins with
// its preface, HTTP/2.
func (w *World) PlainOriginServer(host string, handler http.Handler) *httptest.Server {
	w.t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	w.t.Cleanup(server.Close)
	w.Origin(host, true, server.Listener.Addr().String())
	return server
}

// StartTool starts one of the tools of scripts/versions outside any sandbox, and
// waits until it listens at a port.
func (w *World) StartTool(name string, port int, args ...string) *Program {
	w.t.Helper()
	return w.startListening(name, port, append([]string{w.tool(name)}, args...)...)
}

// startListening starts a program outside any sandbox, and waits until it listens at a port.
func (w *World) startListening(name string, port int, command ...string) *Program {
	w.t.Helper()
	p := w.start(name, command...)
	w.Eventually(fmt.Sprintf("%s listens at port %d", name, port), func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return p
}

// Tool gives the path, inside sandboxes, of one of the tools of scripts/versions.
func (w *World) Tool(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(w.tool(name))
	if err != nil {
		w.t.Fatalf("%v; scripts/setup test builds it", err)
	}
	w.must(os.WriteFile(w.Client(name), text, 0o755))
	return w.Client(name)
}

func (w *World) tool(name string) string { return filepath.Join(root(w.t), ".cache/bin", name) }

// FreePort gives a port of loopback that nobody listened at a moment ago.
func (w *World) FreePort() int { return freePorts(w.t, 1)[0] }
