package proxy

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// tcpEstablished is TCP_ESTABLISHED of include/net/tcp_states.h.
const tcpEstablished = 1

// hasLeft reports whether the other side of a connection has closed it, or its
// half, without reading from it.
func hasLeft(c net.Conn) bool {
	raw, ok := c.(syscall.Conn)
	for !ok {
		if c = netConn(c); c == nil {
			return false
		}
		raw, ok = c.(syscall.Conn)
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return true
	}
	left := false
	err = control.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		left = err == nil && info.State != tcpEstablished
	})
	return left || err != nil
}

// sign tells of an idle connection whether it has something to read, be it only
// its end.
type sign struct {
	raw   syscall.RawConn
	look  func(fd uintptr) bool
	b     [1]byte
	there bool
}

func newSign(c net.Conn) *sign {
	s := new(sign)
	if conn, ok := c.(syscall.Conn); ok {
		s.raw, _ = conn.SyscallConn() // without one, it is closed
	}
	s.look = func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), s.b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		s.there = err != unix.EAGAIN
		return true
	}
	return s
}

func (s *sign) found() bool {
	return s.raw == nil || s.raw.Read(s.look) != nil || s.there
}
