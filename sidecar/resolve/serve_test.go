package resolve

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// serveSandbox serves r's DNS at 127.0.0.1:53, which the namespace's resolv.conf names.
func serveSandbox(t *testing.T, r *Resolver) {
	t.Helper()
	packets, stream := sockets(t, "127.0.0.1:53")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.ServeDNS(ctx, packets, stream) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ServeDNS: %v", err)
		}
		if _, err := packets.WriteTo(nil, packets.LocalAddr()); err == nil {
			t.Error("ServeDNS leaves its socket open")
		}
	})
}

// output gives what a client prints.
func output(t *testing.T, line string) string {
	t.Helper()
	words := strings.Fields(line)
	out, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		t.Fatal(err)
	}
	return string(out)
}

func TestServeDNS(t *testing.T) {
	var zone strings.Builder
	zone.WriteString(`
		a.test. 60 A 93.184.0.1
		a.test. AAAA 2606:2800::1
		a.test. HTTPS 1 . alpn=h3,h2 ech=AEX+DQBB
		a.test. SVCB 1 . alpn=h3 ech=AEX+DQBB
		a.test. TXT "secret"
		alias.test. CNAME a.test.
		four.test. A 93.184.0.4
		inner.test. A 10.0.0.1
		inner.test. AAAA fd00:ec2::254
		mixed.test. A 10.9.9.9
		mixed.test. A 93.184.0.5
`)
	for i := range 100 {
		fmt.Fprintf(&zone, "long.test. A 93.184.1.%d\n", i)
	}
	u := newUpstream(t, zone.String())
	serveSandbox(t, newResolver(t, u, "", "api.stripe.com:443:127.0.0.1:12111"))
	for _, c := range []struct {
		ask       string
		want, not string
		upstream  bool
	}{
		{"a.test A", "status: NOERROR|a.test.|93.184.0.1|flags: qr rd ra;", "flags: qr aa", true},
		{"A.TeSt. AAAA", "2606:2800::1", "", true},
		{"alias.test A", "alias.test.|93.184.0.1", "CNAME", true},
		{"four.test AAAA", "NOERROR|ANSWER: 0", "", true},
		{"absent.test A", "status: NXDOMAIN", "", true},
		{"inner.test A", synthetic("inner.test", dns.TypeA), "10.0.0.1", true},
		{"inner.test AAAA", synthetic("inner.test", dns.TypeAAAA), "fd00", true},
		{"mixed.test A", "93.184.0.5|ANSWER: 1", "10.9.9.9", true},
		{"long.test A", "ANSWER: 100|(TCP)|93.184.1.99", "", true}, // dig asks by TCP when the answer is cut
		{"+ignore +bufsize=512 long.test A", "flags: qr tc", "ANSWER: 100", true},
		{"+noedns +ignore long.test A", "flags: qr tc", "OPT PSEUDOSECTION", true},
		{"+tcp a.test A", "93.184.0.1|(TCP)", "", true},
		{"+dnssec a.test A", "93.184.0.1|EDNS: version: 0", "RRSIG", true},
		{"+noedns a.test A", "93.184.0.1", "OPT PSEUDOSECTION", true},
		{"+edns=1 +noednsneg a.test A", "status: BADVERS", "93.184", false},
		{"+cookie=0011223344556677 a.test A", "93.184.0.1", "", true},
		{"+subnet=93.184.0.0/16 a.test A", "93.184.0.1", "CLIENT-SUBNET", true},

		// Never asked upstream.
		{"api.stripe.com A", synthetic("api.stripe.com", dns.TypeA), "", false},
		{"api.stripe.com AAAA", synthetic("api.stripe.com", dns.TypeAAAA), "", false},
		{"localhost A", "127.0.0.1", "", false},
		{"x.localhost AAAA", "::1", "", false},
		{"a.test HTTPS", "NOERROR|ANSWER: 0", "ech", false},
		{"a.test TYPE65", "NOERROR|ANSWER: 0", "h3", false},
		{"_8443._https.a.test TYPE65", "NOERROR|ANSWER: 0", "ech", false},
		{"+tcp a.test SVCB", "NOERROR|ANSWER: 0", "h3", false},
		{"a.test TXT", "NOERROR|ANSWER: 0", "secret", false},
		{"a.test MX", "NOERROR|ANSWER: 0", "", false},
		{"a.test NULL", "NOERROR|ANSWER: 0", "", false},
		{"a.test CNAME", "NOERROR|ANSWER: 0", "", false},
		{"a.test ANY", "status: NOTIMP", "", false},
		{"-x 93.184.0.1", "NOERROR|ANSWER: 0", "", false},
		{"version.bind CH TXT", "status: REFUSED", "", false},
		{"+opcode=notify a.test SOA", "status: NOTIMP", "", false},
		{"+opcode=update a.test SOA", "status: NOTIMP", "", false},
		{"a_b.test A", "status: NXDOMAIN", "", false},
		{"xn--.--bad-.test A", "status: NXDOMAIN", "", false},
		{"10.0.0.1 A", "status: NXDOMAIN", "", false},
		{"+norec . NS", "NOERROR|ANSWER: 0", "", false},
	} {
		before := len(u.questions())
		out := output(t, "dig @127.0.0.1 +tries=1 +time=5 "+c.ask)
		for want := range strings.SplitSeq(c.want, "|") {
			if !strings.Contains(out, want) {
				t.Errorf("dig %s: no %q in\n%s", c.ask, want, out)
			}
		}
		if _, answers, _ := strings.Cut(out, "Got answer:"); c.not != "" && strings.Contains(answers, c.not) {
			t.Errorf("dig %s: %q in\n%s", c.ask, c.not, out)
		}
		if n := len(u.questions()); !c.upstream && n != before {
			t.Errorf("dig %s: asked upstream: %v", c.ask, u.questions()[before:])
		}
	}
	if out := output(t, "dig @127.0.0.1 +tries=1 +time=5 a.test AXFR"); !strings.Contains(out, "Transfer failed") {
		t.Errorf("dig AXFR:\n%s", out)
	}
}

func synthetic(name string, kind uint16) string {
	return syntheticAddress(question{name, kind}).String()
}

// What may not be asked for upstream is answered all the same, by an address that
// leads nowhere but to the gate.
func TestServeDNSKeepsNamesToItself(t *testing.T) {
	u := newUpstream(t, "allowed.test. A 93.184.0.1\nother.test. A 93.184.0.2\n")
	r := newResolver(t, u, "")
	r.mayAsk = func(name string) bool { return name == "allowed.test" }
	serveSandbox(t, r)
	for name, want := range map[string]string{
		"allowed.test": "93.184.0.1", "other.test": synthetic("other.test", dns.TypeA),
		"c2VjcmV0.evil.test": synthetic("c2vjcmv0.evil.test", dns.TypeA),
	} {
		if out := output(t, "dig @127.0.0.1 +short "+name); strings.TrimSpace(out) != want {
			t.Errorf("dig %s: %q, want %s", name, out, want)
		}
	}
	for _, q := range u.questions() {
		if !strings.Contains(strings.ToLower(fmt.Sprint(q)), "allowed.test") {
			t.Errorf("asked upstream: %v", q)
		}
	}
}

// An address tells for whom a connection is, where nothing else does.
func TestLeads(t *testing.T) {
	u := newUpstream(t, "a.test. A 93.184.0.1\na.test. A 93.184.0.2\nb.test. A 93.184.0.2\ninner.test. A 10.0.0.1\n")
	r := newResolver(t, u, "", "moved.test:443:127.0.0.1:1")
	for _, tt := range []struct {
		name, address string
		want          bool
	}{
		{"a.test", "93.184.0.1", true}, {"a.test", "93.184.0.2", true}, {"b.test", "93.184.0.2", true},
		{"b.test", "93.184.0.1", false}, {"a.test", "2606:2800::1", false}, {"absent.test", "93.184.0.1", false},
		{"inner.test", "10.0.0.1", false}, {"inner.test", synthetic("inner.test", dns.TypeA), true},
		{"moved.test", synthetic("moved.test", dns.TypeA), true}, {"moved.test", synthetic("moved.test", dns.TypeAAAA), true},
		{"moved.test", "127.0.0.1", false}, {"moved.test", synthetic("a.test", dns.TypeA), false},
	} {
		if got := r.Led(t.Context(), []string{tt.name}, netip.MustParseAddr(tt.address))[tt.name]; got != tt.want {
			t.Errorf("%s leads to %s: %v", tt.name, tt.address, got)
		}
	}
}

// libc's own resolver, as most programs in a sandbox use it.
func TestServeDNSForLibc(t *testing.T) {
	u := newUpstream(t, "a.test. A 93.184.0.1\na.test. AAAA 2606:2800::1\nalias.test. CNAME a.test.\n")
	serveSandbox(t, newResolver(t, u, "", "api.stripe.com:443:127.0.0.1:12111"))
	for name, want := range map[string][]string{
		"a.test":         {"93.184.0.1", "2606:2800::1"},
		"alias.test":     {"93.184.0.1", "2606:2800::1"},
		"api.stripe.com": {synthetic("api.stripe.com", dns.TypeA), synthetic("api.stripe.com", dns.TypeAAAA)},
	} {
		out := output(t, "getent ahosts "+name)
		for _, address := range want {
			if !strings.Contains(out, address+" ") {
				t.Errorf("getent ahosts %s: no %s in\n%s", name, address, out)
			}
		}
	}
	if out := output(t, "getent ahosts absent.test"); out != "" {
		t.Errorf("getent ahosts absent.test:\n%s", out)
	}
	resolver := net.Resolver{PreferGo: true}
	if got, err := resolver.LookupHost(t.Context(), "a.test"); err != nil || len(got) != 2 {
		t.Errorf("Go's resolver: %v, %v", got, err)
	}
}

// A tunnel puts its data into names. Few of them get through, and long ones not at all.
func TestServeDNSIsNoTunnel(t *testing.T) {
	u := newUpstream(t, "")
	r := newResolver(t, u, "")
	serveSandbox(t, r)
	label := strings.Repeat("a", 63)
	client := dns.Client{}
	for _, name := range []string{
		strings.Join([]string{label, label, label, "evil.test"}, "."), strings.Repeat("a.", 20) + "evil.test",
	} {
		m, _, err := client.ExchangeContext(t.Context(), new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA), "127.0.0.1:53")
		if err != nil || m.Rcode != dns.RcodeRefused {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
	if n := len(u.questions()); n != 0 {
		t.Errorf("%d of the long names went upstream", n)
	}

	// A limiter that never fills again: its burst is all that gets through.
	r.queries.SetLimit(0)
	var wg sync.WaitGroup
	var mu sync.Mutex
	refused := 0
	for worker := range 10 {
		wg.Go(func() {
			for i := range 50 {
				query := new(dns.Msg).SetQuestion(fmt.Sprintf("%d-%d.evil.test.", worker, i), dns.TypeA)
				m, _, err := client.ExchangeContext(t.Context(), query, "127.0.0.1:53")
				if err != nil {
					t.Error(err)
					continue
				}
				mu.Lock()
				if m.Rcode == dns.RcodeRefused {
					refused++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if n := len(u.questions()); n > queryBurst || refused != 500-n {
		t.Errorf("%d of 500 questions went upstream, %d were refused", n, refused)
	}
	m, _, err := client.ExchangeContext(t.Context(), new(dns.Msg).SetQuestion("0-0.evil.test.", dns.TypeA), "127.0.0.1:53")
	if err != nil || m.Rcode == dns.RcodeServerFailure {
		t.Errorf("what is known is answered still: %v, %v", m, err)
	}
}

// Whatever arrives, the server goes on.
func TestServeDNSSurvivesGarbage(t *testing.T) {
	u := newUpstream(t, "a.test. A 93.184.0.1\n")
	serveSandbox(t, newResolver(t, u, ""))
	query := must(new(dns.Msg).SetQuestion("a.test.", dns.TypeA).Pack())
	packets := must(net.Dial("udp", "127.0.0.1:53"))
	defer packets.Close()
	for n := range query {
		packets.Write(query[:n])
		flipped := append([]byte{}, query...)
		flipped[n] ^= 0xff
		packets.Write(flipped)
	}
	stream := must(net.Dial("tcp", "127.0.0.1:53"))
	stream.Write([]byte{0xff, 0xff, 1, 2, 3})
	stream.Close()
	for _, network := range []string{"udp", "tcp"} {
		client := dns.Client{Net: network}
		m, _, err := client.ExchangeContext(t.Context(), new(dns.Msg).SetQuestion("a.test.", dns.TypeA), "127.0.0.1:53")
		if err != nil || len(m.Answer) != 1 {
			t.Errorf("after garbage by %s: %v, %v", network, m, err)
		}
	}
}

func TestServeDNSReportsALostSocket(t *testing.T) {
	r := newResolver(t, newUpstream(t, ""), "")
	for _, lost := range []string{"udp", "tcp"} {
		packets, stream := sockets(t, "127.0.0.1:0")
		if lost == "udp" {
			packets.Close()
		} else {
			stream.Close()
		}
		if err := r.ServeDNS(t.Context(), packets, stream); err == nil {
			t.Errorf("a closed %s socket is no error", lost)
		}
	}
}
