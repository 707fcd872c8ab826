package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/elazarl/goproxy"
)

// goproxyRole is elazarl/goproxy intercepting every CONNECT, with a store of leaves
// and its upstream connections kept. Its arguments are the address to listen on, the
// origin's, the origin's authorities, and its own certificate and key.
func goproxyRole(args []string) error {
	roots, err := readRoots(args[2])
	if err != nil {
		return err
	}
	authority, err := tls.LoadX509KeyPair(args[3], args[4])
	if err != nil {
		return err
	}
	proxy := goproxy.NewProxyHttpServer()
	proxy.Tr = keepingTransport(args[1], roots)
	proxy.CertStore = new(leaves)
	action := &goproxy.ConnectAction{Action: goproxy.ConnectMitm, TLSConfig: goproxy.TLSConfigFromCA(&authority)}
	proxy.OnRequest().HandleConnect(goproxy.FuncHttpsHandler(func(host string, _ *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
		return action, host
	}))
	return http.ListenAndServe(args[0], proxy)
}

// leaves are kept for good.
type leaves struct {
	mu    sync.Mutex
	named map[string]*tls.Certificate
}

func (l *leaves) Fetch(name string, gen func() (*tls.Certificate, error)) (*tls.Certificate, error) {
	l.mu.Lock()
	leaf := l.named[name]
	l.mu.Unlock()
	if leaf != nil {
		return leaf, nil
	}
	leaf, err := gen()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.named == nil {
		l.named = map[string]*tls.Certificate{}
	}
	l.named[name] = leaf
	return leaf, nil
}

func goproxyCommand(w *world, address string) ([]string, error) {
	return []string{w.Self, "goproxy", address, w.originAddress(), w.Path("ca.pem"), w.Path("peer-ca.pem"), w.Path("peer-ca.key")}, nil
}

func mitmproxyCommand(w *world, address string) ([]string, error) {
	dir := w.Path("mitmproxy")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var both []byte
	for _, name := range []string{"peer-ca.key", "peer-ca.pem"} {
		text, err := os.ReadFile(w.Path(name))
		if err != nil {
			return nil, err
		}
		both = append(both, text...)
	}
	if err := os.WriteFile(filepath.Join(dir, "mitmproxy-ca.pem"), both, 0o600); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	command := []string{"mitmdump", "--quiet", "--listen-host", host, "--listen-port", port}
	for _, option := range []string{
		"confdir=" + dir, "flow_detail=0", "connection_strategy=lazy", "upstream_cert=false", "stream_large_bodies=1m",
		"ssl_verify_upstream_trusted_ca=" + w.Path("ca.pem"),
	} {
		command = append(command, "--set", option)
	}
	return w.WithNames(command), nil
}

func squidCommand(w *world, address string) ([]string, error) {
	const certgen = "/usr/lib/squid/security_file_certgen"
	database := w.Path("squid-leaves-" + address)
	if output, err := exec.CommandContext(w.ctx, certgen, "-c", "-s", database, "-M", "64MB").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make squid's store of leaves: %w\n%s", err, output)
	}
	// Squid gives up root for Debian's user proxy.
	if output, err := exec.CommandContext(w.ctx, "chown", "-R", "proxy:", database).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, output)
	}
	config := w.Path("squid-" + address + ".conf")
	lines := []string{
		fmt.Sprintf("http_port %s ssl-bump tls-cert=%s tls-key=%s generate-host-certificates=on dynamic_cert_mem_cache_size=64MB", address, w.Path("peer-ca.pem"), w.Path("peer-ca.key")),
		fmt.Sprintf("sslcrtd_program %s -s %s -M 64MB", certgen, database),
		"sslcrtd_children 4 startup=1 idle=1",
		"ssl_bump bump all", // from CONNECT's name, without asking the origin first
		"tls_outgoing_options cafile=" + w.Path("ca.pem"),
		"dns_nameservers " + w.origin,
		"http_access allow all",
		"cache deny all", "cache_mem 0", "access_log none", "cache_log /dev/null", "cache_store_log none", "pid_filename none",
		"shutdown_lifetime 0 seconds", fmt.Sprint("max_filedescriptors ", w.files),
		"client_persistent_connections on", "server_persistent_connections on", "client_idle_pconn_timeout 10 minutes", "server_idle_pconn_timeout 10 minutes",
		"via off", "forwarded_for delete", "",
	}
	if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		return nil, err
	}
	// Its shared memory is by the name of the service, and outlives a squid that was killed.
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return []string{"squid", "-N", "-n", "bench" + port, "-f", config}, nil
}

func smokescreenCommand(w *world, address string) ([]string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	tool, err := filepath.Abs(".cache/bin/smokescreen")
	if err != nil {
		return nil, err
	}
	return []string{tool, "--listen-ip", host, "--listen-port", port, "--allow-range", "127.0.0.0/8", "--resolver-address", w.origin + ":53"}, nil
}
