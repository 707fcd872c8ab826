// Package resolve finds and dials upstreams by the sidecar's own name
// resolution, keeps it from forbidden addresses, and answers the sandbox's DNS.
package resolve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
)

var (
	// ErrForbiddenAddress is a destination inside the machine, its network or its cloud.
	ErrForbiddenAddress = errors.New("the address is not a public one")
	// ErrNoSuchHost is a name that does not exist or has no address.
	ErrNoSuchHost = errors.New("no such host")
)

// Config says how names are resolved. The zero value reads the machine's own files.
type Config struct {
	ConnectTo  []string         // "HOST1:PORT1:HOST2:PORT2" as curl's --connect-to
	Servers    []netip.AddrPort // upstream DNS servers; empty: those of ResolvConf
	ResolvConf string           // empty: /etc/resolv.conf
	Hosts      string           // empty: /etc/hosts
	Log        *slog.Logger     // nil: slog.Default
}

// Resolver resolves and dials for one sandbox.
type Resolver struct{}

// New makes a Resolver. Its error says which entry of ConnectTo is malformed.
func New(c Config) (*Resolver, error) { panic("being built") }

// Dial connects by TCP to host, a name or an address, as NormalizeHost gives it.
func (r *Resolver) Dial(ctx context.Context, host string, port uint16) (net.Conn, error) {
	panic("being built")
}

// ServeDNS answers the sandbox's queries until ctx ends, closes both sockets and returns nil.
func (r *Resolver) ServeDNS(ctx context.Context, packets net.PacketConn, stream net.Listener) error {
	panic("being built")
}
