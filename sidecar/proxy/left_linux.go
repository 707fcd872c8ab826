package proxy

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// tcpEstablished is TCP_ESTABLISHED of include/net/tcp_states.h.
const tcpEstablished = 1

// rawOf gives the socket below a connection, or nil.
func rawOf(c net.Conn) syscall.RawConn {
	for ; c != nil; c = netConn(c) {
		if socket, ok := c.(syscall.Conn); ok {
			raw, err := socket.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		}
	}
	return nil
}

// hasLeft reports whether the other side of a connection has closed it, or its
// half, without reading from it.
func hasLeft(raw syscall.RawConn) bool {
	left := false
	err := raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		left = err == nil && info.State != tcpEstablished
	})
	return left || err != nil
}

// awaitBytes waits, up to the read deadline, until there is something to read.
func awaitBytes(raw syscall.RawConn) error {
	return raw.Read(func(fd uintptr) bool { return pending(int(fd)) })
}

// pending reports whether a socket has something to read, be it only its end.
func pending(fd int) bool {
	var b [1]byte
	_, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err != unix.EAGAIN
}

// sign tells of an idle connection whether it has something to read, be it only
// its end.
type sign struct {
	raw   syscall.RawConn
	look  func(fd uintptr) bool
	there bool
}

func newSign(c net.Conn) *sign {
	s := &sign{raw: rawOf(c)}
	s.look = func(fd uintptr) bool {
		s.there = pending(int(fd))
		return true
	}
	return s
}

func (s *sign) found() bool {
	return s.raw == nil || s.raw.Read(s.look) != nil || s.there
}
