package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"sallyport/control/api/reach"
)

const (
	dialTimeout = 15 * time.Second // resolving included
	// attemptDelay before the next address is tried beside the ones under way
	// (RFC 8305 section 5).
	attemptDelay = 250 * time.Millisecond
	mostAttempts = 8
)

// dialAddress connects to a, and checks once more what the kernel is asked for.
func dialAddress(ctx context.Context, a netip.AddrPort, t target) (net.Conn, error) {
	dialer := net.Dialer{ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		dialled, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %s", reach.ErrForbidden, address)
		}
		return t.permit(dialled.Addr())
	}}
	conn, err := dialer.DialContext(ctx, "tcp", a.String())
	if err != nil {
		return nil, err
	}
	// The kernel answers for this machine's own public addresses from the address
	// itself: what listens there is as private as loopback.
	if !t.named && addressOf(conn.LocalAddr()) == addressOf(conn.RemoteAddr()) {
		conn.Close()
		return nil, fmt.Errorf("%w: %s is this machine", reach.ErrForbidden, a.Addr())
	}
	return conn, nil
}

func addressOf(a net.Addr) netip.Addr {
	return a.(*net.TCPAddr).AddrPort().Addr().Unmap()
}

// race dials the addresses one after another without waiting long for any, and
// gives the first connection (happy eyeballs, RFC 8305). All other attempts
// have ended when it returns.
func race(ctx context.Context, addresses []netip.Addr, dial func(context.Context, netip.Addr) (net.Conn, error)) (net.Conn, error) {
	type outcome struct {
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	waiting, pending := interleave(addresses), 0
	outcomes := make(chan outcome, len(waiting))
	defer func() {
		cancel()
		for ; pending > 0; pending-- {
			if o := <-outcomes; o.conn != nil {
				o.conn.Close()
			}
		}
	}()
	next := time.NewTimer(0)
	defer next.Stop()
	var failures []error
	for len(waiting) > 0 || pending > 0 {
		select {
		case <-next.C:
			if len(waiting) == 0 {
				continue
			}
			a := waiting[0]
			waiting = waiting[1:]
			pending++
			go func() {
				conn, err := dial(ctx, a)
				outcomes <- outcome{conn, err}
			}()
			next.Reset(attemptDelay)
		case o := <-outcomes:
			pending--
			if o.err == nil {
				return o.conn, nil
			}
			failures = append(failures, o.err)
			next.Reset(0)
		}
	}
	return nil, errors.Join(failures...)
}

// interleave alternates the families, IPv6 first (RFC 8305 section 4).
func interleave(addresses []netip.Addr) []netip.Addr {
	var six, four, all []netip.Addr
	for _, a := range addresses {
		if a.Is6() {
			six = append(six, a)
		} else {
			four = append(four, a)
		}
	}
	for len(six) > 0 || len(four) > 0 {
		if len(six) > 0 {
			all, six = append(all, six[0]), six[1:]
		}
		if len(four) > 0 {
			all, four = append(all, four[0]), four[1:]
		}
	}
	return all[:min(len(all), mostAttempts)]
}
