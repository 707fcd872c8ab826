package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"sallyport/control/api/reach"
)

func TestPublicAddresses(t *testing.T) {
	g := reach.NewGuard()
	for _, text := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254", "169.254.0.1",
		"169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1",
		"192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
		"255.255.255.255", "100.100.100.200", "168.63.129.16",
		"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::8.8.8.8",
		"64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378::1", "2001:2::1", "2001:10::1", "2001:db8::1", "2002:7f00:1::1", "2002:a9fe:a9fe::1",
		"3fff::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "5f00::1", "2606:4700::1%lo",
	} {
		if err := g.Public(netip.MustParseAddr(text)); !errors.Is(err, reach.ErrForbidden) {
			t.Errorf("%s is taken for a public address (%v)", text, err)
		}
	}
	if g.Public(netip.Addr{}) == nil {
		t.Error("no address is taken for a public one")
	}
	for _, text := range []string{
		"1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1", "192.167.0.1",
		"198.17.0.1", "198.20.0.1", "223.255.255.255", "169.253.0.1", "2001:4860:4860::8888", "2606:4700::1111", "2a00:1450::1", "2001:200::1",
	} {
		if err := g.Public(netip.MustParseAddr(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Whatever a name server says, nothing private is dialled.
func TestDialRefusesForbiddenAnswers(t *testing.T) {
	port, accepted := accepting(t, "[::]:0")
	var zone strings.Builder
	addresses := []string{"127.0.0.1", "127.0.0.2", "0.0.0.0", "169.254.169.254", "10.0.0.1", "::1", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fd00:ec2::254"}
	for i, a := range addresses {
		kind := "A"
		if strings.Contains(a, ":") {
			kind = "AAAA"
		}
		fmt.Fprintf(&zone, "n%d.evil.test. %s %s\n", i, kind, a)
	}
	zone.WriteString("alias.evil.test. CNAME n0.evil.test.\n")
	r := newResolver(t, newUpstream(t, zone.String()), "127.0.0.1 hosts.evil.test\n")
	hosts := []string{"alias.evil.test", "hosts.evil.test", "localhost", "127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0", "::"}
	for i := range addresses {
		hosts = append(hosts, fmt.Sprintf("n%d.evil.test", i))
	}
	for _, host := range hosts {
		if _, err := dialled(t.Context(), r, host, port); !errors.Is(err, reach.ErrForbidden) {
			t.Errorf("%s: error %v, want reach.ErrForbidden", host, err)
		}
	}
	for _, host := range []string{"2130706433", "0x7f.1", "127.1", "017700000001", "localhost%00.api.test", "fe80::1%lo"} {
		if _, err := dialled(t.Context(), r, host, port); !errors.Is(err, ErrNoSuchHost) && !errors.Is(err, reach.ErrForbidden) {
			t.Errorf("%s: error %v, want a refusal", host, err)
		}
	}
	select {
	case a := <-accepted:
		t.Errorf("%v was dialled", a)
	default:
	}
}

func TestDialDialsWhatItChecked(t *testing.T) {
	u := newUpstream(t, "rebind.test. 0 A 93.184.216.34\nmixed.test. A 127.0.0.1\nmixed.test. A 93.184.216.35\nmixed.test. AAAA ::1\n")
	r := newResolver(t, u, "")
	port, _ := accepting(t, "[::]:0")
	dials := func(host, want string) {
		t.Helper()
		if got, err := dialled(t.Context(), r, host, port); err != nil || got.Addr().String() != want {
			t.Errorf("%s: dialled %v, %v; want %s", host, got, err, want)
		}
	}
	dials("mixed.test", "93.184.216.35")
	dials("93.184.216.36", "93.184.216.36")
	dials("rebind.test", "93.184.216.34")
	u.mu.Lock()
	u.zone[0] = must(dns.NewRR("rebind.test. 0 A 127.0.0.1"))
	u.mu.Unlock()
	r.cache.mu.Lock()
	clear(r.cache.answers)
	r.cache.mu.Unlock()
	if _, err := dialled(t.Context(), r, "rebind.test", port); !errors.Is(err, reach.ErrForbidden) {
		t.Errorf("after the rebinding: %v", err)
	}
}

// The last check is of the address that the kernel is asked for.
func TestAddressIsCheckedAsItIsDialled(t *testing.T) {
	port, accepted := accepting(t, "127.0.0.1:0")
	g := reach.NewGuard()
	c, err := dialAddress(t.Context(), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), target{permit: g.Public})
	if !errors.Is(err, reach.ErrForbidden) || c != nil {
		t.Errorf("error %v", err)
	}
	select {
	case <-accepted:
		t.Error("it was dialled")
	default:
	}
}

func TestDialRefusesThisMachine(t *testing.T) {
	port, _ := accepting(t, "[::]:0")
	r := newResolver(t, newUpstream(t, ""), "")
	for _, own := range []string{"93.185.0.1", "2606:2900::1"} {
		if _, err := dialled(t.Context(), r, own, port); !errors.Is(err, reach.ErrForbidden) {
			t.Errorf("%s, our own public address: %v", own, err)
		}
	}
	named := newResolver(t, newUpstream(t, ""), "", fmt.Sprintf("api.test::93.185.0.1:%d", port))
	if _, err := dialled(t.Context(), named, "api.test", 443); err != nil {
		t.Errorf("our own public address, named by the operator: %v", err)
	}
}

func TestDialBothFamilies(t *testing.T) {
	u := newUpstream(t, `
		six.test. AAAA 2606:2800::6
		four.test. A 93.184.0.4
		both.test. A 93.184.0.4
		both.test. AAAA 2606:2800::6
	`)
	r := newResolver(t, u, "")
	port, _ := accepting(t, "[::]:0")
	for host, want := range map[string]string{"six.test": "2606:2800::6", "four.test": "93.184.0.4", "both.test": "2606:2800::6", "FOUR.test.": "93.184.0.4"} {
		if got, err := dialled(t.Context(), r, host, port); err != nil || got.Addr().String() != want {
			t.Errorf("%s: dialled %v, %v; want %s", host, got, err, want)
		}
	}
	only4, _ := accepting(t, "93.184.0.4:0")
	if got, err := dialled(t.Context(), r, "both.test", only4); err != nil || got.Addr().String() != "93.184.0.4" {
		t.Errorf("IPv6 refuses: dialled %v, %v", got, err)
	}
}

func TestDialErrors(t *testing.T) {
	u := newUpstream(t, "none.test. TXT x\nfour.test. A 93.184.0.4\nbroken.test. A 93.184.0.4\n")
	u.set(func(_ dns.ResponseWriter, m *dns.Msg) {
		if m.Question[0].Name == "broken.test." {
			m.Rcode, m.Answer = dns.RcodeServerFailure, nil
		}
	})
	r := newResolver(t, u, "")
	for host, want := range map[string]error{"absent.test": ErrNoSuchHost, "none.test": ErrNoSuchHost, "": ErrNoSuchHost, "a_b.test": ErrNoSuchHost} {
		if _, err := dialled(t.Context(), r, host, 443); !errors.Is(err, want) {
			t.Errorf("%q: error %v, want %v", host, err, want)
		}
	}
	if _, err := dialled(t.Context(), r, "broken.test", 443); err == nil || errors.Is(err, ErrNoSuchHost) || !strings.Contains(err.Error(), "SERVFAIL") {
		t.Errorf("a name server that fails: %v", err)
	}
	if _, err := dialled(t.Context(), r, "four.test", 1); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a port where nobody listens: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dialled(ctx, r, "four.test", 443); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who left: %v", err)
	}
}

// connection counts how many of its kind are open.
type connection struct {
	net.Conn
	open *atomic.Int64
}

func (c connection) Close() error { c.open.Add(-1); return nil }

func TestRace(t *testing.T) {
	six, six2 := netip.MustParseAddr("2606:2800::1"), netip.MustParseAddr("2606:2800::2")
	four, four2 := netip.MustParseAddr("93.184.0.1"), netip.MustParseAddr("93.184.0.2")
	all := []netip.Addr{four, four2, six, six2}
	refused := errors.New("refused")
	for name, c := range map[string]struct {
		takes map[netip.Addr]time.Duration // until it is connected; without: never
		fails map[netip.Addr]time.Duration
		tried []netip.Addr
		after time.Duration
		wins  bool
	}{
		"the first":              {takes: map[netip.Addr]time.Duration{six: 10}, tried: []netip.Addr{six}, after: 10, wins: true},
		"IPv6 is a black hole":   {takes: map[netip.Addr]time.Duration{four: 10}, tried: []netip.Addr{six, four}, after: attemptDelay + 10, wins: true},
		"IPv6 is slow":           {takes: map[netip.Addr]time.Duration{six: 2 * attemptDelay, four: 5 * attemptDelay}, tried: []netip.Addr{six, four, six2}, after: 2 * attemptDelay, wins: true},
		"no IPv6 here":           {fails: map[netip.Addr]time.Duration{six: 1, six2: 1}, takes: map[netip.Addr]time.Duration{four: 10}, tried: []netip.Addr{six, four}, after: 11, wins: true},
		"all refuse":             {fails: map[netip.Addr]time.Duration{six: 1, six2: 1, four: 1, four2: 1}, tried: []netip.Addr{six, four, six2, four2}, after: 4},
		"all are black holes":    {tried: []netip.Addr{six, four, six2, four2}, after: dialTimeout},
		"two at the same moment": {takes: map[netip.Addr]time.Duration{six: attemptDelay + 10, four: 10}, tried: []netip.Addr{six, four}, after: attemptDelay + 10, wins: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), dialTimeout)
				defer cancel()
				var open, under atomic.Int64
				tried := make(chan netip.Addr, 10)
				begin := time.Now()
				conn, err := race(ctx, all, func(ctx context.Context, a netip.Addr) (net.Conn, error) {
					tried <- a
					under.Add(1)
					defer under.Add(-1)
					takes, connects := c.takes[a]
					fails, refuses := c.fails[a]
					if !connects && !refuses {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					time.Sleep(takes + fails) // not even ctx hurries it
					if refuses {
						return nil, refused
					}
					open.Add(1)
					return connection{open: &open}, nil
				})
				if under.Load() != 0 {
					t.Error("an attempt goes on")
				}
				if c.wins != (err == nil) || c.wins != (conn != nil) || c.wins != (open.Load() == 1) {
					t.Errorf("connection %v, error %v, %d open", conn, err, open.Load())
				}
				close(tried)
				var order []netip.Addr
				for a := range tried {
					order = append(order, a)
				}
				if !slices.Equal(order, c.tried) {
					t.Errorf("tried %v, want %v", order, c.tried)
				}
				if took := time.Since(begin); took < c.after || took > c.after+5*attemptDelay {
					t.Errorf("it took %v, want about %v", took, c.after)
				}
			})
		})
	}
}
