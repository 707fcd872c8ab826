package netsetup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Verify reads links and rules back from the kernel and compares them with what
// Seal made. It is for before a program runs inside.
func (n *Namespace) Verify(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := n.Do(checkSealed); err != nil {
		return fmt.Errorf("verify the links of the sealed namespace: %w", err)
	}
	if err := n.rules.verify(); err != nil {
		return fmt.Errorf("verify the rules of the sealed namespace: %w", err)
	}
	return nil
}

// Addresses for documentation (RFC 5737, RFC 3849): nobody calls them in earnest.
var (
	probe4 = netip.MustParseAddrPort("192.0.2.1:443")
	probe6 = netip.MustParseAddrPort("[2001:db8::1]:443")
)

// probeTimeout is far more than a redirect takes: rules that don't work lose the
// packets without a sign.
const probeTimeout = 5 * time.Second

// Probe dials from inside and sees the connection arrive at TCP, in each family
// that the namespace has. Nobody may be accepting there yet; connections that
// others made are dropped.
func (n *Namespace) Probe(ctx context.Context) error {
	targets := []netip.AddrPort{probe4}
	if n.ipv6 {
		targets = append(targets, probe6)
	}
	for _, target := range targets {
		if err := n.probe(ctx, target); err != nil {
			return fmt.Errorf("probe the sealed namespace: a connection to %s was not intercepted: %w", target, err)
		}
	}
	return nil
}

func (n *Namespace) probe(ctx context.Context, target netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		n.open.tcp.SetDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !stop() {
			<-interrupted
		}
		n.open.tcp.SetDeadline(time.Time{})
	}()
	return n.Do(func() error {
		var d net.Dialer
		out, err := d.DialContext(ctx, "tcp", target.String())
		if err != nil {
			return err
		}
		defer out.Close()
		for {
			in, err := n.open.tcp.AcceptTCP()
			if err != nil {
				return errors.Join(err, context.Cause(ctx))
			}
			dst, direct, err := OriginalDst(in)
			in.Close()
			if err == nil && !direct && dst == target {
				return nil
			}
		}
	})
}
