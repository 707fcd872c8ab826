package sidecar

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sallyport/control/api"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/gate"
	"sallyport/sidecar/identity"
	"sallyport/sidecar/resolve"
)

func TestLooksHTTP(t *testing.T) {
	for said, want := range map[string]bool{
		"GET / HTTP/1.1\r\n": true, "GET /": true, "\r\n\nGET / HTTP/1.1\r\n": true, " GET /": true, "get\t/": true, "X\v/": true, "GET\r/ HTTP/1.1\n": true,
		"PRI * HTTP/2.0\r\n": true, "!~ x": true, "GET\xa0/": true,
		"": false, "GET": false, "PING\r\n": false, "PING\n": false, "SSH-2.0-x\r\n": false, "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n": false, "SSH-2.0-x / http/1.1\r\n": true, "\x00\x00\x00\x08\x04\xd2\x16\x2f": false, "{\"a\": 1}": false,
		"*1\r\n$4\r\nPING\r\n": false,
	} {
		if got := looksHTTP(&gate.Flow{}, strings.NewReader(said)); got != want {
			t.Errorf("%q: %v", said, got)
		}
	}
	endless := io.MultiReader(strings.NewReader(strings.Repeat("A", 1<<16)), failing{})
	if !looksHTTP(&gate.Flow{}, endless) {
		t.Error("a word without end is taken for no HTTP")
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestNamedHostIsNotSplicedInHTTP: whatever the first request says, a flow to a
// host that is passed through by its name is read where it speaks HTTP, for later
// requests may be to others at the same address.
func TestNamedHostIsNotSplicedInHTTP(t *testing.T) {
	const address = "192.0.2.1"
	decide := func(said, connect string, rules ...*api.PolicyRule) gate.Verdict {
		table, err := bind.New(nil, nil, &api.Policy{Rules: rules})
		if err != nil {
			t.Fatal(err)
		}
		w := &worker{heard: make(chan struct{}), identity: new(identity.Identity)}
		w.served.Store(&served{table: table})
		w.resolver, err = resolve.New(resolve.Config{ConnectTo: []string{"pinned.test:80:127.0.0.1:1"}, Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}})
		if err != nil {
			t.Fatal(err)
		}
		led := map[bool]string{true: address, false: synthetic(t, w.resolver, "pinned.test")}[strings.HasPrefix(rules[len(rules)-1].GetHosts()[0], "192")]
		flow := &gate.Flow{Original: netip.AddrPortFrom(netip.MustParseAddr(led), 80), Connect: connect, Name: connect}
		return w.decide(t.Context(), flow, func() io.Reader { return strings.NewReader(said) })
	}
	denied := &api.PolicyRule{Action: api.Action_ACTION_DENY, Hosts: []string{"evil.test"}}
	named := &api.PolicyRule{Action: api.Action_ACTION_PASSTHROUGH, Hosts: []string{"pinned.test"}}
	addressed := &api.PolicyRule{Action: api.Action_ACTION_PASSTHROUGH, Hosts: []string{address}}
	for _, host := range []string{"1.2.3.4", "a:x:y", "[", "", "pinned.test", "evil.test"} {
		said := "GET / HTTP/1.1\r\nHost: " + host + "\r\n\nGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"
		for _, connect := range []string{"", "pinned.test"} {
			if v := decide(said, connect, denied, named); v.Route != nil || v.Refusal != nil {
				t.Errorf("Host %q, CONNECT %q: %+v, want it read", host, connect, v)
			}
		}
	}
	if v := decide("\r\n GET\t/ HTTP/1.1\r\nHost: 1.2.3.4\r\n\r\n", "", denied, named); v.Route != nil {
		t.Errorf("a crooked request: %+v", v)
	}
	if v := decide("SSH-2.0-x\r\n", "", denied, named); v.Route == nil || v.Route.Host != "pinned.test" {
		t.Errorf("what is no HTTP: %+v", v)
	}
	if v := decide("GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", "", addressed); v.Route == nil || v.Route.Host != "" {
		t.Errorf("by an address: %+v", v)
	}
	if v := decide("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", "", denied, addressed); v.Route != nil || v.Refusal != nil {
		t.Errorf("by an address, to a name: %+v", v)
	}
}

// TestHTTPWaitsForNoNames: a request that names its host is read at once, however
// slow the servers of the policy's names are.
func TestHTTPWaitsForNoNames(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	resolver, err := resolve.New(resolve.Config{Servers: []netip.AddrPort{netip.MustParseAddrPort(silent.LocalAddr().String())}})
	if err != nil {
		t.Fatal(err)
	}
	table, err := bind.New(nil, nil, &api.Policy{Rules: []*api.PolicyRule{
		{Action: api.Action_ACTION_DENY, Hosts: []string{"a.test"}}, {Action: api.Action_ACTION_PASSTHROUGH, Hosts: []string{"b.test"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{resolver: resolver}
	w.served.Store(&served{table: table})
	start := time.Now()
	flow := &gate.Flow{Original: netip.MustParseAddrPort("192.0.2.1:80")}
	v := w.decide(t.Context(), flow, func() io.Reader { return strings.NewReader("GET / HTTP/1.1\r\nHost: c.test\r\n\r\n") })
	if took := time.Since(start); v.Route != nil || v.Refusal != nil || took > time.Second {
		t.Errorf("%+v after %v", v, took)
	}
}

// synthetic is the address that name's clients are led to: of those that belong to
// nobody (RFC 2544) one is.
func synthetic(t *testing.T, r *resolve.Resolver, name string) string {
	t.Helper()
	for i := range 1 << 17 {
		a := netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)})
		if r.Led(t.Context(), []string{name}, a)[name] {
			return a.String()
		}
	}
	t.Fatalf("%s leads nowhere", name)
	return ""
}
