// Package places bounds the connections of a listener, so that those who hold them leave
// descriptors to everything else in the process: each API to the others, and all of them
// to the database and to files.
package places

import (
	"net"
	"net/netip"
	"sync"
	"syscall"
)

const (
	// reserved are the descriptors that connections of both APIs leave to everything
	// else: metrics, the database, other servers, files.
	reserved = 256
	// Metrics is how many connections their listener may have.
	Metrics = 32

	leastAdmins  = 64
	mostAdmins   = 2048
	mostSidecars = 100_000
)

// Admins is how many connections the admin API may have at once.
func Admins() int { return admins(files()) }

// Sidecars is how many sidecars may be connected at once, as many as descriptors allow.
func Sidecars() int { return sidecars(files()) }

func admins(files int) int { return min(max(files/8, leastAdmins), mostAdmins) }

func sidecars(files int) int {
	return min(max(files-reserved-admins(files), files/2), mostSidecars)
}

// files is how many descriptors the process may have, or enough for all if nobody knows.
func files() int {
	const enough = 2 * mostSidecars
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > enough {
		return enough
	}
	return int(limit.Cur)
}

// listener gives so many connections at once. At the bound it waits; an address that
// holds half of all is refused.
type listener struct {
	net.Listener
	places chan struct{} // holds one for each connection
	mu     sync.Mutex
	closed chan struct{}
	held   map[netip.Addr]int
}

// Bound has l give so many connections at once.
func Bound(l net.Listener, most int) net.Listener {
	return &listener{Listener: l, places: make(chan struct{}, most), closed: make(chan struct{}), held: make(map[netip.Addr]int)}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		select {
		case l.places <- struct{}{}:
		case <-l.closed:
			return nil, net.ErrClosed
		}
		conn, err := l.Listener.Accept()
		if err != nil {
			<-l.places
			return nil, err
		}
		from := source(conn)
		if l.take(from) {
			return &held{Conn: conn, leave: sync.OnceFunc(func() { l.release(from) })}, nil
		}
		conn.Close()
		<-l.places
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return l.Listener.Close()
}

func source(conn net.Conn) netip.Addr {
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

func (l *listener) take(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[from] >= max(1, cap(l.places)/2) {
		return false
	}
	l.held[from]++
	return true
}

func (l *listener) release(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[from]--; l.held[from] == 0 {
		delete(l.held, from)
	}
	<-l.places
}

// held is a connection that has a place.
type held struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (h *held) Close() error {
	defer h.leave()
	return h.Conn.Close()
}
