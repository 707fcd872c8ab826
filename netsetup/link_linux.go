package netsetup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	linkName = "eth0"
	peerName = "sallyport0"
	linkMTU  = 65535 // nothing is ever sent on it, but TCP takes its segment size from it

	localTimeout = 5 * time.Second // the kernel needs milliseconds

	addrGenModeNone = 1 // IN6_ADDR_GEN_MODE_NONE of linux/if_link.h
)

// The addresses are of kinds that no service has: the IPv4 service continuity
// prefix, meant for hosts that only look connected (RFC 7335), and a unique
// local prefix that spells a name (RFC 4193). The gateways are nobody's.
var (
	prefix4  = netip.MustParsePrefix("192.0.0.2/29")
	prefix6  = netip.MustParsePrefix("fd73:616c:6c79::2/64")
	gateway4 = netip.MustParseAddr("192.0.0.1")
	gateway6 = netip.MustParseAddr("fd73:616c:6c79::1")

	// gatewayMAC is not the peer's either, so the peer drops what it is sent.
	gatewayMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x01}
)

// tunnels are the kinds of the devices that the kernel puts into every
// namespace once a module is loaded. Down, they are no way out.
var tunnels = []string{"ipip", "sit", "gre", "gretap", "erspan", "ip6tnl", "ip6gre", "ip6gretap", "ip6erspan", "vti", "vti6"}

// checkLinks refuses the current namespace if it has an interface that could be
// a way out: any but the loopback and those named.
func checkLinks(named ...string) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list the interfaces: %w", err)
	}
	for _, link := range links {
		a := link.Attrs()
		up := a.Flags&net.FlagUp != 0
		switch {
		case a.Flags&net.FlagLoopback != 0, slices.Contains(named, a.Name):
		case !up && slices.Contains(tunnels, link.Type()):
		case a.Name == peerName:
			return errSealed
		default:
			return fmt.Errorf("the namespace has the interface %s (%s), which may be a way out: "+
				"only one with nothing but lo can be sealed, as containers started with --network none have", a.Name, link.Type())
		}
	}
	return nil
}

// connect gives the namespace a default route that leads to itself, in both
// families. Without one, programs would be told that the network is unreachable
// before any rule sees what they send.
func (n *Namespace) connect(ctx context.Context) error {
	return n.Do(func() error {
		if err := n.raiseLoopback(); err != nil {
			return err
		}
		eth0, err := n.addPair()
		if err != nil {
			return err
		}
		if err := route(eth0, prefix4, gateway4); err != nil {
			return fmt.Errorf("set up IPv4: %w", err)
		}
		if !kernelHasIPv6() {
			return nil
		}
		err = route(eth0, prefix6, gateway6)
		if errors.Is(err, errNoFamily) {
			return nil // turned off: no socket of it can be connected, either
		}
		if err != nil {
			return fmt.Errorf("set up IPv6: %w", err)
		}
		if err := awaitLocal(ctx, prefix6.Addr()); err != nil {
			return fmt.Errorf("wait for the address %s: %w", prefix6.Addr(), err)
		}
		n.ipv6 = true
		return nil
	})
}

// raiseLoopback sets lo up. With that the kernel gives it addresses.
func (n *Namespace) raiseLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if lo.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	before, err := netlink.AddrList(lo, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list the addresses of lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	n.undo = append(n.undo, func() error {
		return n.Do(func() error { return lowerLoopback(lo, before) })
	})
	return nil
}

// removePair succeeds too when somebody else has removed it.
func removePair(pair netlink.Link) error {
	if err := netlink.LinkDel(pair); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove the link: %w", err)
	}
	return nil
}

// lowerLoopback sets lo down and leaves it the given addresses.
func lowerLoopback(lo netlink.Link, keep []netlink.Addr) error {
	if err := netlink.LinkSetDown(lo); err != nil {
		return fmt.Errorf("set lo down: %w", err)
	}
	addrs, err := netlink.AddrList(lo, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list the addresses of lo: %w", err)
	}
	kept := make(map[string]bool, len(keep)) // there may be very many
	for _, addr := range keep {
		kept[addr.IPNet.String()] = true
	}
	for _, addr := range addrs {
		if kept[addr.IPNet.String()] {
			continue
		}
		if err := netlink.AddrDel(lo, &addr); err != nil {
			return fmt.Errorf("remove the address %s of lo: %w", addr.IPNet, err)
		}
	}
	return nil
}

// addPair adds the veth pair, both ends in the current namespace, and sets it up.
func (n *Namespace) addPair() (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = linkName, linkMTU
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerMTU = peerName, linkMTU
	if err := netlink.LinkAdd(pair); err != nil {
		return nil, fmt.Errorf("add a veth pair: %w", err)
	}
	n.undo = append(n.undo, func() error { return n.Do(func() error { return removePair(pair) }) })
	for _, name := range []string{linkName, peerName} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", name, err)
		}
		// No link-local address: nothing is to be discovered on this link.
		if err := netlink.LinkSetIP6AddrGenMode(link, addrGenModeNone); err != nil && !noFamily(err) {
			return nil, fmt.Errorf("keep %s from making addresses: %w", name, err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return nil, fmt.Errorf("set %s up: %w", name, err)
		}
	}
	return pair, nil
}

var errNoFamily = errors.New("the address family is turned off")

// noFamily tells the errors of a family that is not in the kernel
// (ipv6.disable=1) or switched off in the namespace (disable_ipv6).
func noFamily(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EACCES)
}

// route gives link an address, usable at once, and a default route by a gateway
// that needs no discovery.
func route(link netlink.Link, p netip.Prefix, gateway netip.Addr) error {
	bits := p.Addr().BitLen()
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), bits)}}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		if noFamily(err) {
			err = errNoFamily
		}
		return fmt.Errorf("add the address %s: %w", p, err)
	}
	index := link.Attrs().Index
	neigh := &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: gateway.AsSlice(), HardwareAddr: gatewayMAC}
	if err := netlink.NeighSet(neigh); err != nil {
		return fmt.Errorf("add the neighbour %s: %w", gateway, err)
	}
	everywhere := &net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)}
	r := &netlink.Route{LinkIndex: index, Dst: everywhere, Gw: gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
	if err := netlink.RouteAdd(r); err != nil {
		return fmt.Errorf("add the default route by %s: %w", gateway, err)
	}
	return nil
}

// awaitLocal waits until what is sent to addr stays in the current namespace. The
// kernel leaves that to a worker for IPv6, even without duplicate address
// detection; until then the address can't be used, nor do rules see it as local.
func awaitLocal(ctx context.Context, addr netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	updates, done := make(chan netlink.RouteUpdate), make(chan struct{})
	failed := make(chan error, 1)
	err := netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{
		ListExisting: true,
		ErrorCallback: func(err error) {
			if errors.Is(err, netlink.ErrDumpInterrupted) {
				return // by a change, which is an update of its own
			}
			select {
			case failed <- err:
			default:
			}
		},
	})
	if err != nil {
		close(done)
		return err
	}
	defer func() {
		close(done)
		for range updates { // until the subscription has ended
		}
	}()
	for {
		select {
		case u := <-updates:
			if u.Type == unix.RTM_NEWROUTE && u.Route.Type == unix.RTN_LOCAL && u.Dst != nil && u.Dst.IP.Equal(addr.AsSlice()) {
				return nil
			}
		case err := <-failed:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// checkSealed reports what is missing from the links that connect made, or came
// in addition.
func checkSealed() error {
	var missing []string
	for _, name := range []string{"lo", linkName, peerName} {
		link, err := netlink.LinkByName(name)
		if err != nil || link.Attrs().Flags&net.FlagUp == 0 {
			missing = append(missing, name)
		}
	}
	if missing != nil {
		return fmt.Errorf("not there or not up: %s", strings.Join(missing, ", "))
	}
	return checkLinks(linkName, peerName)
}
