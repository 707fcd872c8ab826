package netsetup_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"sallyport/netsetup"
	"sallyport/netsetup/netnstest"

	"golang.org/x/sync/errgroup"
)

const patience = 20 * time.Second // for what comes at once or never

// arrival is a connection as the worker sees it.
type arrival struct {
	dst    netip.AddrPort
	direct bool
}

// accept takes n connections from l.
func accept(l *net.TCPListener, n int) (map[arrival]int, error) {
	got := map[arrival]int{}
	for range n {
		l.SetDeadline(time.Now().Add(patience))
		c, err := l.AcceptTCP()
		if err != nil {
			return got, err
		}
		dst, direct, err := netsetup.OriginalDst(c)
		c.Close()
		if err != nil {
			return got, err
		}
		got[arrival{dst, direct}]++
	}
	return got, nil
}

// dialAll connects to each address and waits until the other side hangs up.
func dialAll(ns *netsetup.Namespace, addrs []netip.AddrPort) error {
	return ns.Do(func() error {
		for _, addr := range addrs {
			c, err := net.DialTimeout("tcp", addr.String(), patience)
			if err != nil {
				return err
			}
			c.SetDeadline(time.Now().Add(patience))
			_, err = c.Read(make([]byte, 1))
			c.Close()
			if !errors.Is(err, io.EOF) {
				return fmt.Errorf("read from %s: %w", addr, err)
			}
		}
		return nil
	})
}

// arrive dials all addresses and compares what l sees with want.
func arrive(t *testing.T, ns *netsetup.Namespace, l *net.TCPListener, addrs []netip.AddrPort, want map[arrival]int) {
	t.Helper()
	var got map[arrival]int
	var g errgroup.Group
	g.Go(func() error { return dialAll(ns, addrs) })
	g.Go(func() (err error) {
		got, err = accept(l, len(addrs))
		return err
	})
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if !maps.Equal(got, want) {
		t.Errorf("arrived: %v, want %v", got, want)
	}
}

var anywhere = []string{"203.0.113.1", "10.0.0.1", "169.254.169.254", "2001:db8:5::1", "fd00:ec2::254"}

// TestEveryPort dials all low ports, both ends of the range, and ports all over
// the rest of it.
func TestEveryPort(t *testing.T) {
	eachBackend(t, func(t *testing.T, ns *netsetup.Namespace) {
		for _, host := range []string{anywhere[0], anywhere[3]} {
			var ports []int
			for p := 1; p < 1024; p++ {
				ports = append(ports, p)
			}
			for p := 1024; p < 65535; p += 97 {
				ports = append(ports, p)
			}
			ports = append(ports, 15001, 15053, 65535)
			ports = slices.DeleteFunc(ports, func(p int) bool { return p == 53 })
			var addrs []netip.AddrPort
			want := map[arrival]int{}
			for _, p := range ports {
				addr := addrPort(host, uint16(p))
				addrs = append(addrs, addr)
				want[arrival{addr, false}]++
			}
			arrive(t, ns, ns.TCP(), addrs, want)
		}
	})
}

func TestOriginalDestination(t *testing.T) {
	eachBackend(t, func(t *testing.T, ns *netsetup.Namespace) {
		for _, host := range anywhere {
			addr := addrPort(host, 443)
			arrive(t, ns, ns.TCP(), []netip.AddrPort{addr}, map[arrival]int{{addr, false}: 1})
		}
	})
}

// TestDirect dials the interception port itself, at every address of the
// namespace, as for an explicit proxy.
func TestDirect(t *testing.T) {
	eachBackend(t, func(t *testing.T, ns *netsetup.Namespace) {
		for _, host := range []string{"127.0.0.1", "127.9.9.9", "::1", "192.0.0.2", "fd73:616c:6c79::2"} {
			addr := addrPort(host, 15001)
			arrive(t, ns, ns.TCP(), []netip.AddrPort{addr}, map[arrival]int{{addr, true}: 1})
		}
	})
}

func TestDNS(t *testing.T) {
	eachBackend(t, func(t *testing.T, ns *netsetup.Namespace) {
		servers := slices.Clone(anywhere)
		for _, addr := range ns.Nameservers() {
			servers = append(servers, addr.String())
		}
		if len(servers) != len(anywhere)+2 {
			t.Errorf("nameservers: %v, want one a family", ns.Nameservers())
		}
		for _, server := range servers {
			addr := addrPort(server, 53)
			arrive(t, ns, ns.DNSStream(), []netip.AddrPort{addr}, map[arrival]int{{addr, false}: 1})
			if err := ask(ns, addr); err != nil {
				t.Errorf("ask %s over UDP: %v", addr, err)
			}
		}
	})
}

// ask sends a datagram from a connected socket, which takes an answer from that
// address alone, and answers it as a server that knows nothing of NAT.
func ask(ns *netsetup.Namespace, server netip.AddrPort) error {
	var g errgroup.Group
	g.Go(func() error {
		ns.DNSPacket().SetDeadline(time.Now().Add(patience))
		b := make([]byte, 100)
		n, from, err := ns.DNSPacket().ReadFrom(b)
		if err == nil {
			_, err = ns.DNSPacket().WriteTo(append(b[:n:n], " answered"...), from)
		}
		return err
	})
	g.Go(func() error {
		return ns.Do(func() error {
			c, err := net.DialTimeout("udp", server.String(), patience)
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			if _, err := c.Write([]byte("question")); err != nil {
				return err
			}
			b := make([]byte, 100)
			n, err := c.Read(b)
			if err == nil && string(b[:n]) != "question answered" {
				err = fmt.Errorf("got %q", b[:n])
			}
			return err
		})
	})
	return g.Wait()
}

// TestLocalTrafficIsLeftAlone: a program's own servers are its own.
func TestLocalTrafficIsLeftAlone(t *testing.T) {
	eachBackend(t, func(t *testing.T, ns *netsetup.Namespace) {
		for _, host := range []string{"127.0.0.1", "::1", "192.0.0.2", "fd73:616c:6c79::2"} {
			var own net.Listener
			err := ns.Do(func() (err error) {
				own, err = net.Listen("tcp", addrPort(host, 53).String())
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			arrive(t, ns, own.(*net.TCPListener), []netip.AddrPort{addrPort(host, 53)}, map[arrival]int{{addrPort(host, 53), true}: 1})
			own.Close()
		}
	})
}

func TestProbe(t *testing.T) {
	eachBackend(t, func(t *testing.T, ns *netsetup.Namespace) {
		// A program that runs already has a connection in the backlog.
		var early net.Conn
		err := ns.Do(func() (err error) {
			early, err = net.DialTimeout("tcp", addrPort(anywhere[0], 80).String(), patience)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer early.Close()
		for range 2 {
			if err := ns.Probe(t.Context()); err != nil {
				t.Error(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := ns.Probe(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
		addr := addrPort(anywhere[0], 443)
		arrive(t, ns, ns.TCP(), []netip.AddrPort{addr}, map[arrival]int{{addr, false}: 1})
	})
}

func TestProbeFailsWithoutRules(t *testing.T) {
	for _, command := range []string{
		"nft flush ruleset",
		"nft flush chain inet sallyport nat_output",
		"nft insert rule inet sallyport nat_output accept",
		"nft insert rule inet sallyport nat_output meta nfproto ipv6 accept",
	} {
		t.Run(command, func(t *testing.T) {
			ns := netnstest.Seal(t, netsetup.Config{Backend: netsetup.NFTables})
			mustInside(t, ns, "sh", "-c", command)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second) // what is not refused is lost
			defer cancel()
			if err := ns.Probe(ctx); err == nil {
				t.Error("the probe was seen to arrive")
			}
		})
	}
}
