package netsetup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// sockets are what the rules lead to. Each serves both families.
type sockets struct {
	tcp       *net.TCPListener
	dnsPacket *net.UDPConn
	dnsStream *net.TCPListener
}

// listen opens the sockets in the current namespace, on every address of it, so
// that a program can't put a socket of its own on one of them.
func listen(ctx context.Context, p ports) (s sockets, err error) {
	network, host := "6", "::"
	lc := net.ListenConfig{Control: bothFamilies}
	if !kernelHasIPv6() {
		network, host = "4", "0.0.0.0"
		lc.Control = nil
	}
	// The original destination of a multipath connection can't be asked for;
	// without it clients fall back to plain TCP.
	lc.SetMultipathTCP(false)

	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
			s = sockets{}
		}
	}()
	at := func(port uint16) string { return net.JoinHostPort(host, strconv.Itoa(int(port))) }
	tcp, err := lc.Listen(ctx, "tcp"+network, at(p.intercept))
	if err != nil {
		return s, fmt.Errorf("listen for intercepted connections: %w", err)
	}
	s.tcp = tcp.(*net.TCPListener)
	stream, err := lc.Listen(ctx, "tcp"+network, at(p.dns))
	if err != nil {
		return s, fmt.Errorf("listen for DNS over TCP: %w", err)
	}
	s.dnsStream = stream.(*net.TCPListener)
	packet, err := lc.ListenPacket(ctx, "udp"+network, at(p.dns))
	if err != nil {
		return s, fmt.Errorf("listen for DNS over UDP: %w", err)
	}
	s.dnsPacket = packet.(*net.UDPConn)
	return s, nil
}

// bothFamilies makes an IPv6 socket serve IPv4 too. Package net would do so
// unasked only if it found both families where it looked first, which may have
// been another namespace.
func bothFamilies(_, _ string, c syscall.RawConn) error {
	var set error
	err := c.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	})
	return errors.Join(err, set)
}

// kernelHasIPv6 tells whether the kernel has IPv6 at all, be it turned off in a
// namespace or not.
func kernelHasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return !errors.Is(err, unix.EAFNOSUPPORT)
	}
	unix.Close(fd)
	return true
}

// Close closes what is open; the owner of a socket may have closed it before.
func (s sockets) Close() error {
	var errs []error
	if s.tcp != nil {
		errs = append(errs, s.tcp.Close())
	}
	if s.dnsStream != nil {
		errs = append(errs, s.dnsStream.Close())
	}
	if s.dnsPacket != nil {
		errs = append(errs, s.dnsPacket.Close())
	}
	for i, err := range errs {
		if errors.Is(err, net.ErrClosed) {
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}
