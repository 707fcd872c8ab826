package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// datagrams are UDP to many ports and with odd options, what is sent to groups, and
// pings.
func datagrams(settings) []attack {
	var all []attack
	for _, port := range []uint16{
		1, 53, 67, 69, 123, 137, 161, 443, 500, 514, 546, 784, 853, 1194, 1900, 3478, 4433, 4500, 4789, 5353, 5683, 8443, 15053, 33434, 41641, 51820, 65535,
	} {
		all = append(all, each(fmt.Sprint("UDP port ", port), func(a *attack, to netip.Addr) error {
			return a.datagram(netip.AddrPortFrom(to, port), 0, nil)
		})...)
	}
	for name, option := range socketOptions() {
		all = append(all, each("UDP, "+name, func(a *attack, to netip.Addr) error {
			return a.datagram(netip.AddrPortFrom(to, 4444), 0, option)
		})...)
	}
	all = append(all, each("UDP-Lite", func(a *attack, to netip.Addr) error {
		return a.datagram(netip.AddrPortFrom(to, 4444), unix.IPPROTO_UDPLITE, nil)
	})...)
	all = append(all, each("QUIC", quic)...)
	all = append(all, each("ping without privilege", ping)...)
	for _, to := range []string{
		"255.255.255.255:9", "224.0.0.1:9", "224.0.0.251:5353", "239.255.255.250:1900", "192.0.0.7:9", "169.254.255.255:9",
		"[ff02::1]:9", "[ff02::2]:9", "[ff02::fb]:5353", "[ff05::2]:9", "[ff0e::1]:9", "[fe80::1]:9",
	} {
		all = append(all, attack{"UDP to " + to, func(a *attack) error { return a.toEach(netip.MustParseAddrPort(to)) }})
	}
	return all
}

// datagram sends twice from a connected socket: the second call is told what became of
// the first.
func (a *attack) datagram(to netip.AddrPort, proto int, option func(int, bool) error) error {
	fd, sa, err := socketTo(to, unix.SOCK_DGRAM, proto)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if option != nil {
		if err := option(fd, to.Addr().Is6()); err != nil {
			return err
		}
	}
	if err := unix.Connect(fd, sa); err != nil {
		return err
	}
	return a.sendTwice(fd, []byte(a.payload()))
}

func (a *attack) sendTwice(fd int, payload []byte) error {
	timeout := unix.NsecToTimeval(int64(300 * time.Millisecond))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return err
	}
	for range 2 {
		if err := unix.Sendto(fd, payload, 0, nil); err != nil {
			return err
		}
	}
	if err := receive(fd); !errors.Is(err, unix.EAGAIN) {
		return err
	}
	return errSent
}

// quic sends something of the shape of a client's Initial packet (RFC 9000 section 17.2.2).
func quic(a *attack, to netip.Addr) error {
	fd, sa, err := socketTo(netip.AddrPortFrom(to, 443), unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, sa); err != nil {
		return err
	}
	initial := append([]byte{0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x44, 0x9e}, a.payload()...)
	return a.sendTwice(fd, append(initial, make([]byte, 1200-len(initial))...))
}

// ping needs no privilege where ping_group_range allows it.
func ping(a *attack, to netip.Addr) error {
	proto, kind := unix.IPPROTO_ICMP, byte(8)
	if to.Is6() {
		proto, kind = unix.IPPROTO_ICMPV6, 128
	}
	fd, sa, err := socketTo(netip.AddrPortFrom(to, 0), unix.SOCK_DGRAM, proto)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, sa); err != nil {
		return err
	}
	if err := a.sendTwice(fd, append([]byte{kind, 0, 0, 0, 0, 1, 0, 1}, a.payload()...)); !errors.Is(err, errAnswered) {
		return err
	}
	return nil // nobody but the outside answers a ping to there
}

// toEach sends to a group, on every link.
func (a *attack) toEach(to netip.AddrPort) error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	var refused []error
	for _, link := range links {
		addr := net.UDPAddrFromAddrPort(to)
		if to.Addr().Is6() {
			addr.Zone = link.Name
		}
		conn, err := net.ListenUDP("udp", nil)
		if err != nil {
			return err
		}
		raw, err := conn.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), link.Name) })
		}
		if err == nil {
			_, err = conn.WriteTo([]byte(a.payload()), addr)
		}
		conn.Close()
		if err == nil {
			return errSent
		}
		refused = append(refused, err)
	}
	return errors.Join(refused...)
}
