package netsetup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
)

// Backend is the kernel facility that holds the rules.
type Backend string

const (
	Auto     Backend = ""         // nftables, or iptables where nftables can't be loaded
	NFTables Backend = "nftables" // over netlink; needs no program
	IPTables Backend = "iptables" // needs the iptables and ip6tables programs
)

// Config says how to seal. The zero value is the usual way.
type Config struct {
	InterceptPort uint16 // where TCP arrives; 15001 if 0
	DNSPort       uint16 // where DNS arrives, over UDP and TCP; 15053 if 0
	Backend       Backend
}

// ports are where the rules lead to.
type ports struct{ intercept, dns uint16 }

var defaultPorts = ports{intercept: 15001, dns: 15053}

// check gives the ports, with the defaults filled in.
func (c Config) check() (ports, error) {
	p := ports{
		intercept: cmp.Or(c.InterceptPort, defaultPorts.intercept),
		dns:       cmp.Or(c.DNSPort, defaultPorts.dns),
	}
	if p.intercept == p.dns {
		return p, fmt.Errorf("the interception port and the DNS port are both %d: they must differ", p.dns)
	}
	switch c.Backend {
	case Auto, NFTables, IPTables:
		return p, nil
	}
	return p, fmt.Errorf("unknown ruleset backend %q: use %q, %q, or none to have it detected", c.Backend, NFTables, IPTables)
}

// Namespace is a sealed network namespace. Its methods may be used at once by
// several goroutines.
type Namespace struct {
	file    *os.File
	backend Backend
	rules   ruleset
	ipv6    bool
	open    sockets

	undo  []func() error // puts a namespace that isn't ours back, last first
	close func() error
}

// Seal makes a network namespace owned by the caller's user namespace, and
// seals it. The caller must be root there (CAP_SYS_ADMIN and CAP_NET_ADMIN).
func Seal(ctx context.Context, c Config) (*Namespace, error) {
	p, err := c.check()
	if err != nil {
		return nil, err
	}
	ns, err := newNetNS()
	if err != nil {
		return nil, err
	}
	n := newNamespace(ns)
	if err := n.seal(ctx, c.Backend, p); err != nil {
		return nil, errors.Join(fmt.Errorf("seal a new network namespace: %w", err), n.Close())
	}
	n.undo = nil // it ends with its last user; until then it stays sealed
	return n, nil
}

// SealPath seals the network namespace that path leads to, such as
// /run/netns/NAME or /proc/PID/ns/net. One that has any interface beside the
// loopback is refused: that would be another way out. Close puts it back as it was.
func SealPath(ctx context.Context, path string, c Config) (*Namespace, error) {
	p, err := c.check()
	if err != nil {
		return nil, err
	}
	ns, err := openNetNS(path)
	if err != nil {
		return nil, err
	}
	n := newNamespace(ns)
	if err := n.seal(ctx, c.Backend, p); err != nil {
		return nil, errors.Join(fmt.Errorf("seal %s: %w", path, err), n.Close())
	}
	return n, nil
}

func newNamespace(file *os.File) *Namespace {
	n := &Namespace{file: file}
	n.close = sync.OnceValue(func() error {
		errs := []error{n.open.Close()}
		for i := len(n.undo) - 1; i >= 0; i-- {
			errs = append(errs, n.undo[i]())
		}
		return errors.Join(append(errs, n.file.Close())...)
	})
	return n
}

// seal brings the namespace from bare to sealed. What it did so far is in n.undo
// when it fails. The rules come first: there is never a link without them.
func (n *Namespace) seal(ctx context.Context, b Backend, p ports) error {
	if err := n.Do(func() error { return checkLinks() }); err != nil {
		return err
	}
	if err := n.loadRules(ctx, b, p); err != nil {
		return err
	}
	if err := n.connect(ctx); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return n.Do(func() (err error) {
		n.open, err = listen(ctx, p)
		return err
	})
}

// File is the namespace, for setns. It is closed by Close.
func (n *Namespace) File() *os.File { return n.file }

// Backend is what holds the rules: NFTables or IPTables.
func (n *Namespace) Backend() Backend { return n.backend }

// TCP accepts every TCP connection made in the namespace, of both families,
// except those to port 53 and to the namespace's own addresses. OriginalDst
// tells where a connection was going.
func (n *Namespace) TCP() *net.TCPListener { return n.open.tcp }

// DNSPacket receives every UDP datagram to port 53. An answer written to where
// the question came from reaches the client from the address it asked.
func (n *Namespace) DNSPacket() *net.UDPConn { return n.open.dnsPacket }

// DNSStream accepts every TCP connection to port 53.
func (n *Namespace) DNSStream() *net.TCPListener { return n.open.dnsStream }

// Nameservers are the addresses for the namespace's resolv.conf. Nobody has
// them: questions to them, as to any others, arrive at DNSPacket and DNSStream.
func (n *Namespace) Nameservers() []netip.Addr {
	if !n.ipv6 {
		return []netip.Addr{gateway4}
	}
	return []netip.Addr{gateway4, gateway6}
}

// Do runs f on an OS thread inside the namespace, and waits for it. Goroutines
// that f starts are not inside, nor does the thread outlive f: a child process
// started in f must not ask for Pdeathsig.
func (n *Namespace) Do(f func() error) error { return enter(n.file, f) }

// Close closes the sockets and the namespace, and puts one that was given to
// SealPath back as it was. A namespace that programs still run in stays sealed,
// with nobody behind the rules.
func (n *Namespace) Close() error { return n.close() }
