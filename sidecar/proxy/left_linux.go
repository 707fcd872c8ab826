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

// unasked reports whether an idle connection has something to read, be it only
// its end.
func unasked(c net.Conn) bool {
	raw, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return true
	}
	found := false
	err = control.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		found = err != unix.EAGAIN
		return true
	})
	return found || err != nil
}
