// Package resolve finds and dials upstreams by the sidecar's own name
// resolution, keeps it from forbidden addresses, and answers the sandbox's DNS.
//
//	host ─▶ connect-to ─▶ hosts file ─▶ cache ─▶ DNS ─▶ every address checked ─▶ dialled,
//	                                                    and the one dialled once more
package resolve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"sallyport/control/api"
	"sallyport/control/api/reach"
)

// ErrNoSuchHost is a name that does not exist or has no address.
var ErrNoSuchHost = errors.New("no such host")

// Config says how names are resolved. The zero value reads the machine's own files.
type Config struct {
	ConnectTo  []string         // "HOST1:PORT1:HOST2:PORT2" as curl's --connect-to
	Servers    []netip.AddrPort // upstream DNS servers; empty: those of ResolvConf
	ResolvConf string           // read once; empty: /etc/resolv.conf
	Hosts      string           // read once; empty: /etc/hosts
	// Ask reports whether the sandbox may have a name asked for upstream; nil: any.
	// What it may not is answered as if there were such a name, so that the client
	// connects and is told why it can't.
	Ask func(name string) bool
	Log *slog.Logger // nil: slog.Default
}

// Resolver resolves and dials for one sandbox. Safe for concurrent use.
type Resolver struct {
	log       *slog.Logger
	mayAsk    func(name string) bool
	guard     reach.Guard
	connectTo []redirect
	hosts     map[string][]netip.Addr
	servers   []netip.AddrPort

	cache   cache
	silent  cache // of questions about where a name leads that got no answer
	flights singleflight.Group
	queries *rate.Limiter  // of the sandbox's questions that go upstream
	warning rate.Sometimes // of them, so that a sandbox can't flood the log
}

// New makes a Resolver. Its error says which entry of ConnectTo is malformed.
func New(c Config) (*Resolver, error) {
	r := &Resolver{
		log: c.Log, guard: reach.NewGuard(), servers: c.Servers,
		cache: cache{answers: map[question]answer{}}, silent: cache{answers: map[question]answer{}}, queries: rate.NewLimiter(queryRate, queryBurst),
		warning: rate.Sometimes{First: 3, Interval: 10 * time.Second},
	}
	if r.log == nil {
		r.log = slog.Default()
	}
	if r.mayAsk = c.Ask; r.mayAsk == nil {
		r.mayAsk = func(string) bool { return true }
	}
	for _, text := range c.ConnectTo {
		redirect, err := parseConnectTo(text)
		if err != nil {
			return nil, err
		}
		r.connectTo = append(r.connectTo, redirect)
	}
	var err error
	if r.hosts, err = readHosts(orDefault(c.Hosts, "/etc/hosts")); err != nil {
		return nil, err
	}
	if len(r.servers) == 0 {
		r.servers, err = readServers(orDefault(c.ResolvConf, "/etc/resolv.conf"))
	}
	return r, err
}

func orDefault(path, otherwise string) string {
	if path == "" {
		return otherwise
	}
	return path
}

// readServers reads the name servers of a resolv.conf (resolv.conf(5)).
func readServers(path string) ([]netip.AddrPort, error) {
	config, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the name servers: %w", err)
	}
	var servers []netip.AddrPort
	for _, text := range config.Servers {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("read the name servers: %s: %q is not an address", path, text)
		}
		servers = append(servers, netip.AddrPortFrom(a, 53))
	}
	if len(servers) == 0 { // what libc does
		servers = append(servers, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53))
	}
	return servers, nil
}

// Dial connects by TCP to host, a name or an address. Only public addresses are
// dialled, unless an operator's connect-to names another. Its errors are
// ErrNoSuchHost, reach.ErrForbidden, or what resolving or connecting met; they
// name addresses, which are for logs, not for the sandbox.
func (r *Resolver) Dial(ctx context.Context, host string, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.String()
	} else if host, err = api.NormalizeHost(host); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoSuchHost, err)
	}
	t := r.target(host, port)
	addresses, err := r.addresses(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", t.host, err)
	}
	conn, err := race(ctx, addresses, func(ctx context.Context, a netip.Addr) (net.Conn, error) {
		return dialAddress(ctx, netip.AddrPortFrom(a, t.port), t)
	})
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", t.host, err)
	}
	return conn, nil
}

// addresses gives the allowed addresses of t, of which there is at least one.
func (r *Resolver) addresses(ctx context.Context, t target) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(t.host); err == nil {
		return []netip.Addr{a}, t.permit(a)
	}
	found, err := r.lookupBoth(ctx, t.host)
	if err != nil {
		return nil, err
	}
	var allowed []netip.Addr
	for _, a := range found {
		if refused := t.permit(a); refused != nil {
			err = refused
			continue
		}
		allowed = append(allowed, a)
	}
	if len(allowed) == 0 {
		return nil, err
	}
	return allowed, nil
}
