package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	greeting = "outside" // what the listeners outside say
	patience = time.Second
)

// errAnswered is what an attack gives that somebody answered, but not from outside.
var errAnswered = errors.New("answered by the sidecar, not from outside")

// each makes an attack of each family.
func each(name string, run func(a *attack, to netip.Addr) error) []attack {
	return []attack{
		{name + " over IPv4", func(a *attack) error { return run(a, a.four()) }},
		{name + " over IPv6", func(a *attack) error { return run(a, a.six()) }},
	}
}

// sockets are connections: to many ports, with odd options, of kinds that a rule about
// TCP may not be about.
func sockets(settings) []attack {
	var all []attack
	for _, port := range []uint16{
		1, 7, 21, 22, 23, 25, 80, 110, 143, 443, 465, 587, 853, 993, 1080, 1194, 3128, 3306, 3389, 5222, 5432, 6379, 6667,
		8080, 8200, 8201, 8443, 9001, 9090, 9418, 11211, 15001, 15053, 27017, 50051, 65535,
	} {
		all = append(all, each(fmt.Sprint("TCP port ", port), func(a *attack, to netip.Addr) error {
			return a.connect(netip.AddrPortFrom(to, port), nil)
		})...)
	}
	for name, option := range socketOptions() {
		all = append(all, each("TCP, "+name, func(a *attack, to netip.Addr) error {
			return a.connect(netip.AddrPortFrom(to, 4444), option)
		})...)
	}
	all = append(all, each("TCP to a mapped address", func(a *attack, to netip.Addr) error {
		return a.stream(unix.SOCK_STREAM, 0, netip.AddrPortFrom(netip.AddrFrom16(a.four().As16()), 4444))
	})[:1]...)
	all = append(all, each("TCP fast open", fastOpen)...)
	for _, kind := range []struct {
		name            string
		typ, proto, two int
	}{
		{"MPTCP", unix.SOCK_STREAM, unix.IPPROTO_MPTCP, 0},
		{"SCTP, one to one", unix.SOCK_STREAM, unix.IPPROTO_SCTP, 0},
		{"SCTP, one to many", unix.SOCK_SEQPACKET, unix.IPPROTO_SCTP, 0},
		{"DCCP", unix.SOCK_DCCP, unix.IPPROTO_DCCP, 0},
		{"SMC", unix.SOCK_STREAM, 256, 0}, // IPPROTO_SMC
	} {
		all = append(all, each(kind.name, func(a *attack, to netip.Addr) error {
			return a.stream(kind.typ, kind.proto, netip.AddrPortFrom(to, 4444))
		})...)
	}
	return all
}

// socketOptions change where a packet goes or comes from, or how rules see it.
func socketOptions() map[string]func(fd int, six bool) error {
	set := func(level, option, value int) func(int, bool) error {
		return func(fd int, _ bool) error { return unix.SetsockoptInt(fd, level, option, value) }
	}
	options := map[string]func(fd int, six bool) error{
		"marked":                  set(unix.SOL_SOCKET, unix.SO_MARK, 1),
		"not routed":              set(unix.SOL_SOCKET, unix.SO_DONTROUTE, 1),
		"urgent":                  set(unix.SOL_SOCKET, unix.SO_PRIORITY, 6),
		"from port 20":            bound(netip.Addr{}, 20),
		"from port 68":            bound(netip.Addr{}, 68),
		"from another's address":  spoofed(unix.IP_FREEBIND, unix.IPV6_FREEBIND),
		"from another's, by mark": spoofed(unix.IP_TRANSPARENT, unix.IPV6_TRANSPARENT),
		"through a tunnel":        set(unix.IPPROTO_UDP, unix.UDP_ENCAP, 2),
	}
	links, err := net.Interfaces()
	if err != nil {
		return options
	}
	for _, link := range links {
		options["bound to "+role(link)] = func(fd int, _ bool) error { return unix.BindToDevice(fd, link.Name) }
	}
	for name, option := range map[string][]byte{
		"loose source route":  {131, 7, 4, 45, 45, 45, 45, 0},
		"strict source route": {137, 7, 4, 45, 45, 45, 45, 0},
		"record route":        {7, 7, 4, 0, 0, 0, 0, 0},
		"timestamps":          {68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"router alert":        {148, 4, 0, 0},
	} {
		options[name] = func(fd int, six bool) error {
			if six {
				return unix.SetsockoptString(fd, unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, string([]byte{0, 0, 1, 4, 0, 0, 0, 0}))
			}
			return unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, string(option))
		}
	}
	return options
}

// role is what a link is, whatever it is called.
func role(link net.Interface) string {
	if link.Flags&net.FlagLoopback != 0 {
		return "the loopback"
	}
	return fmt.Sprint("link ", link.Index)
}

func bound(from netip.Addr, port uint16) func(int, bool) error {
	return func(fd int, six bool) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
		if six {
			sa := &unix.SockaddrInet6{Port: int(port)}
			if from.IsValid() {
				sa.Addr = from.As16()
			}
			return unix.Bind(fd, sa)
		}
		sa := &unix.SockaddrInet4{Port: int(port)}
		if from.IsValid() {
			sa.Addr = from.As4()
		}
		return unix.Bind(fd, sa)
	}
}

// spoofed binds to an address that is not ours.
func spoofed(option4, option6 int) func(int, bool) error {
	return func(fd int, six bool) error {
		level, option, from := unix.IPPROTO_IP, option4, netip.MustParseAddr("8.8.8.8")
		if six {
			level, option, from = unix.IPPROTO_IPV6, option6, netip.MustParseAddr("2001:4860:4860::8888")
		}
		if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
			return err
		}
		return bound(from, 0)(fd, six)
	}
}

// connect connects with an option set and says the payload.
func (a *attack) connect(to netip.AddrPort, option func(int, bool) error) error {
	dialer := net.Dialer{Timeout: patience}
	if option != nil {
		dialer.Control = func(_, _ string, raw syscall.RawConn) (err error) {
			if failed := raw.Control(func(fd uintptr) { err = option(int(fd), to.Addr().Is6()) }); failed != nil {
				return failed
			}
			return err
		}
	}
	dialer.SetMultipathTCP(false)
	conn, err := dialer.Dial("tcp", to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(a.payload())); err != nil {
		return err
	}
	b := make([]byte, 100)
	n, err := conn.Read(b)
	return answered(string(b[:n]), err)
}

// answered says what an answer means.
func answered(answer string, err error) error {
	switch {
	case strings.Contains(answer, greeting):
		return nil
	case answer != "":
		return errAnswered
	case err == nil:
		return io.ErrUnexpectedEOF
	}
	return err
}

// stream is connect with a socket of any kind.
func (a *attack) stream(typ, proto int, to netip.AddrPort) error {
	fd, sa, err := socketTo(to, typ, proto)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, sa); err != nil {
		return err
	}
	if err := unix.Sendto(fd, []byte(a.payload()), unix.MSG_NOSIGNAL, nil); err != nil {
		return err
	}
	return receive(fd)
}

// socketTo opens a socket of the destination's family that waits a bounded time.
func socketTo(to netip.AddrPort, typ, proto int) (int, unix.Sockaddr, error) {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())})
	if to.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return -1, nil, fmt.Errorf("socket: %w", err)
	}
	timeout := unix.NsecToTimeval(int64(patience))
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &timeout); err != nil {
			return -1, nil, errors.Join(err, unix.Close(fd))
		}
	}
	return fd, sa, nil
}

func receive(fd int) error {
	b := make([]byte, 200)
	n, _, err := unix.Recvfrom(fd, b, 0)
	return answered(string(b[:max(n, 0)]), err)
}

// fastOpen sends data with the SYN, before any connection there is to look at.
func fastOpen(a *attack, to netip.Addr) error {
	fd, sa, err := socketTo(netip.AddrPortFrom(to, 4444), unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, []byte(a.payload()), unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL, sa); err != nil {
		return err
	}
	return receive(fd)
}
