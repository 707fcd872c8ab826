package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"sallyport/e2e/stage"
)

// way is one way from a client to the origin.
type way struct {
	name      string
	about     string
	zone      string
	protocols []string // h1, h2, grpc, and h1h2: HTTP/1.1 from the client, HTTP/2 to the origin
	injects   bool
	foreign   bool // somebody else's program
	idle      int  // connections that it can hold, or in a time that is worth waiting for; 0 is no limit
	begin     func(w *world) (*instance, error)
}

func allWays() []way {
	return []way{
		{name: "direct", zone: openZone, protocols: []string{"h1", "h2", "grpc"}, begin: (*world).direct,
			about: "no proxy: the client dials the origin"},
		{name: "splice", zone: openZone, protocols: []string{"h1", "h2", "grpc"}, idle: 1000, begin: sealed("splice"),
			about: "floor of pass-through: a Go program in a sealed namespace that joins TCP connections by splice(2)"},
		{name: "floor", zone: openZone, protocols: []string{"h1", "h2", "grpc"}, begin: sealed("floor"),
			about: "a Go program in a sealed namespace that ends TLS, begins it anew and looks at nothing"},
		{name: "inject", zone: keyedZone, protocols: []string{"h1", "h2", "grpc", "h1h2"}, injects: true, begin: sandbox(true),
			about: "Sallyport in a sandbox, a credential injected, everything on"},
		{name: "inspect", zone: openZone, protocols: []string{"h1", "h2", "grpc", "h1h2"}, begin: sandbox(true),
			about: "Sallyport in a sandbox, no credential bound for the host"},
		{name: "passthrough", zone: throughZone, protocols: []string{"h1", "h2", "grpc"}, idle: 1000, begin: sandbox(false),
			about: "Sallyport in a sandbox, policy `passthrough`: not decrypted"},
		{name: "reverse", zone: openZone, protocols: []string{"h1", "h2", "grpc", "h1h2"}, begin: sealed("reverse"),
			about: "net/http's Server and ReverseProxy in a sealed namespace; leaves cached, buffers pooled, every upstream connection kept"},
		{name: "goproxy", zone: openZone, protocols: []string{"h1"}, foreign: true, begin: peer(goproxyCommand, "peer-ca.pem"),
			about: "elazarl/goproxy by CONNECT; ECDSA authority, leaves cached, every upstream connection kept"},
		{name: "squid", zone: openZone, protocols: []string{"h1"}, foreign: true, begin: peer(squidCommand, "peer-ca.pem"),
			about: "squid ssl_bump by CONNECT; bumped by the name in it, leaves cached in memory, no cache, no log, upstream connections kept"},
		{name: "mitmproxy", zone: openZone, protocols: []string{"h1", "h2"}, foreign: true, idle: 1000, begin: peer(mitmproxyCommand, "peer-ca.pem"),
			about: "mitmdump by CONNECT; lazy connections, no look at the upstream's certificate, bodies over 1 MiB streamed, no output"},
		{name: "smokescreen", zone: openZone, protocols: []string{"h1", "h2", "grpc"}, foreign: true, idle: 1000, begin: peer(smokescreenCommand, "ca.pem"),
			about: "stripe/smokescreen by CONNECT; not decrypted, no policy but that loopback is allowed"},
	}
}

// host gives the name to ask for a protocol.
func (y way) host(protocol string) string {
	if protocol == "h1" {
		return "api." + y.zone
	}
	return "h2." + y.zone
}

// want is what the origin must see.
func (y way) want(protocol string) string {
	version, authorization := 2, ""
	if protocol == "h1" {
		version = 1
	}
	if y.injects {
		authorization = "Bearer " + secret
	}
	return seen(version, authorization)
}

// clientProtocol is what the client speaks for a protocol.
func clientProtocol(protocol string) string {
	if protocol == "h1h2" {
		return "h1"
	}
	return protocol
}

// instance is a way that runs.
type instance struct {
	way
	client *process
	root   int // the proxy's first process; 0 is none
	stop   func()
}

func (i *instance) proxies() []int {
	if i.root == 0 {
		return nil
	}
	return proxies(i.root)
}

func (w *world) start(y way) (*instance, error) {
	i, err := y.begin(w)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", y.name, err)
	}
	i.way = y
	return i, nil
}

// chosenWays are those that the flags name.
func (w *world) chosenWays() []way {
	return slices.DeleteFunc(allWays(), func(y way) bool { return !slices.Contains(w.ways, y.name) })
}

// redirected are addresses that a client in a sealed namespace dials. Any is redirected;
// many have more ports than one.
func redirected() []string {
	var addresses []string
	for i := range 16 {
		addresses = append(addresses, fmt.Sprintf("192.0.2.%d:443", i+1))
	}
	return addresses
}

func (w *world) route(r route) string {
	r.Core = w.cores.Load
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // of strings and numbers
	}
	return string(text)
}

func (w *world) direct() (*instance, error) {
	return w.instance(w.cores.Load, true, w.Self, "client", w.route(route{Dial: []string{w.originAddress()}, Roots: w.Path("ca.pem")}))
}

// instance starts a client, or a proxy that starts it.
func (w *world) instance(core int, bare bool, command ...string) (*instance, error) {
	p, err := w.launch(core, command...)
	if err != nil {
		return nil, err
	}
	i := &instance{client: p, stop: p.Stop}
	if !bare {
		i.root = p.Cmd.Process.Pid
	}
	return i, nil
}

func sealed(kind string) func(*world) (*instance, error) {
	return func(w *world) (*instance, error) {
		authority, roots := w.Path(kind+"-ca.pem"), w.Path(kind+"-ca.pem")
		if kind == "splice" {
			roots = w.Path("ca.pem")
		}
		return w.instance(w.cores.Proxy, false, w.Self, "sealed", kind, w.originAddress(), w.Path("ca.pem"), authority,
			w.route(route{Dial: redirected(), Roots: roots}))
	}
}

// sandbox starts a client in a sandbox. It believes only whom it should see: the
// sandbox's authority where TLS is ended, or else the origin's.
func sandbox(decrypted bool) func(*world) (*instance, error) {
	return func(w *world) (*instance, error) {
		roots := "/etc/ssl/certs/ca-certificates.crt"
		if !decrypted {
			roots = w.Path("ca.pem")
			if err := w.letThrough(); err != nil {
				return nil, err
			}
		}
		command, err := w.sandboxed(w.Self, "client", w.route(route{Dial: redirected(), Roots: roots}))
		if err != nil {
			return nil, err
		}
		return w.instance(w.cores.Proxy, false, command...)
	}
}

// letThrough gives the agent its policy for what is not decrypted.
func (w *world) letThrough() error {
	_, err := w.CLI("", "agent", "policy", "set", "bench", "--rule", "passthrough *."+throughZone)
	return err
}

// sandboxed gives the command that runs another in a new sandbox.
func (w *world) sandboxed(command ...string) ([]string, error) {
	return w.Sandboxed("bench", []string{"--upstream-ca", w.Path("ca.pem"), "--connect-to", ":443:" + w.originAddress()}, command...)
}

// peer starts another program, which listens at an address, and a client that asks it
// to CONNECT and believes only the authority named.
func peer(command func(w *world, address string) ([]string, error), roots string) func(*world) (*instance, error) {
	return func(w *world) (*instance, error) {
		address, err := stage.FreeAddress()
		if err != nil {
			return nil, err
		}
		line, err := command(w, address)
		if err != nil {
			return nil, err
		}
		if _, err := exec.LookPath(line[0]); err != nil {
			return nil, fmt.Errorf("%w; 'scripts/setup bench' installs it, -ways leaves it out", err)
		}
		proxy, err := w.Launch(w.cores.Proxy, line...)
		if err != nil {
			return nil, err
		}
		if err := w.Await(proxy, func() error { return stage.Reachable(address) }); err != nil {
			proxy.Stop()
			return nil, fmt.Errorf("%s: %w", strings.Join(line, " "), err)
		}
		i, err := w.instance(w.cores.Load, true, w.Self, "client", w.route(route{Dial: []string{address}, Connect: true, Roots: w.Path(roots)}))
		if err != nil {
			proxy.Stop()
			return nil, err
		}
		client := i.client
		i.root, i.stop = proxy.Process.Pid, func() { client.Stop(); proxy.Stop() }
		return i, nil
	}
}
