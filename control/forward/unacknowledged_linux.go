package forward

import (
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// unacknowledged is how many bytes of what was written the peer's TCP has not
// acknowledged (tcp(7), SIOCOUTQ).
func unacknowledged(conn net.Conn) (n int, err error) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	if err == nil && failed != nil {
		err = fmt.Errorf("ask for what is unacknowledged: %w", failed)
	}
	return n, err
}
