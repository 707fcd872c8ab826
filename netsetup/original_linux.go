package netsetup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// OriginalDst tells where a connection accepted from a sealed namespace was
// going before the rules redirected it. It is direct if it was not redirected:
// it came to the listener's own address. The root of a namespace can forge the
// answer, so it is good for logs and for passing through, never for deciding who
// gets a secret.
func OriginalDst(c *net.TCPConn) (dst netip.AddrPort, direct bool, err error) {
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return dst, false, fmt.Errorf("read the local address of a connection: %w", err)
	}
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	raw, err := c.SyscallConn()
	if err != nil {
		return dst, false, fmt.Errorf("read the original destination: %w", err)
	}
	var get error
	err = raw.Control(func(fd uintptr) {
		if local.Addr().Is4() {
			dst, get = originalDst4(int(fd))
		} else {
			dst, get = originalDst6(int(fd))
		}
	})
	if err = errors.Join(err, get); err != nil {
		return netip.AddrPort{}, false, fmt.Errorf("read the original destination: %w", err)
	}
	return dst, dst == local, nil
}

// originalDst4 reads a sockaddr_in, for which x/sys/unix has no call, by one
// that reads as much: 2 bytes of family, then port and address as on the wire.
func originalDst4(fd int) (netip.AddrPort, error) {
	mreq, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, unix.SO_ORIGINAL_DST)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b := mreq.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
}

// originalDst6 does the same for a sockaddr_in6. IP6T_SO_ORIGINAL_DST has the
// number of the IPv4 option.
func originalDst6(fd int) (netip.AddrPort, error) {
	info, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, unix.SO_ORIGINAL_DST)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, info.Addr.Port))
	return netip.AddrPortFrom(netip.AddrFrom16(info.Addr.Addr), port), nil
}
