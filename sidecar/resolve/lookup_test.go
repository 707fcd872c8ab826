package resolve

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

func ask(t *testing.T, r *Resolver, name string, kind uint16) answer {
	t.Helper()
	return r.lookup(t.Context(), question{name, kind})
}

func texts(addresses []netip.Addr) []string {
	var all []string
	for _, a := range addresses {
		all = append(all, a.String())
	}
	slices.Sort(all)
	return all
}

func TestLookup(t *testing.T) {
	u := newUpstream(t, `
		a.test. 60 A 93.184.0.1
		a.test. 30 A 93.184.0.2
		a.test. 900 AAAA 2606:2800::1
		alias.test. 20 CNAME middle.test.
		middle.test. 10 CNAME a.test.
		loop.test. CNAME pool.test.
		pool.test. CNAME loop.test.
		dangling.test. CNAME nowhere.test.
		long.test. 86400 A 93.184.0.3
		short.test. 0 A 93.184.0.4
	`)
	r := newResolver(t, u, "93.184.9.9 file.test\n2606:2800::9 file.test # and a comment\nnot-an-address x.test\n")
	for _, c := range []struct {
		name string
		kind uint16
		want []string
		ttl  time.Duration
		err  bool
	}{
		{"a.test", dns.TypeA, []string{"93.184.0.1", "93.184.0.2"}, 30 * time.Second, false},
		{"a.test", dns.TypeAAAA, []string{"2606:2800::1"}, mostTTL, false},
		{"alias.test", dns.TypeA, []string{"93.184.0.1", "93.184.0.2"}, 10 * time.Second, false},
		{"long.test", dns.TypeA, []string{"93.184.0.3"}, mostTTL, false},
		{"long.test", dns.TypeAAAA, nil, absentTTL, false},
		{"short.test", dns.TypeA, []string{"93.184.0.4"}, leastTTL, false},
		{"file.test", dns.TypeA, []string{"93.184.9.9"}, hostsTTL, false},
		{"file.test", dns.TypeAAAA, []string{"2606:2800::9"}, hostsTTL, false},
		{"localhost", dns.TypeA, []string{"127.0.0.1"}, hostsTTL, false},
		{"x.test", dns.TypeA, nil, absentTTL, true},
		{"dangling.test", dns.TypeA, nil, absentTTL, true},
		{"loop.test", dns.TypeA, nil, absentTTL, false},
	} {
		got := ask(t, r, c.name, c.kind)
		if !slices.Equal(texts(got.addresses), c.want) || (got.err != nil) != c.err {
			t.Errorf("%s %s: %v, %v; want %v", c.name, dns.TypeToString[c.kind], got.addresses, got.err, c.want)
		}
		if left := time.Until(got.expires); left > c.ttl || left < c.ttl-5*time.Second {
			t.Errorf("%s %s expires in %v, want %v", c.name, dns.TypeToString[c.kind], left, c.ttl)
		}
	}
	before := len(u.questions())
	for range 3 {
		ask(t, r, "alias.test", dns.TypeA)
		ask(t, r, "x.test", dns.TypeA)
	}
	if n := len(u.questions()); n != before {
		t.Errorf("%d questions went upstream again", n-before)
	}
}

// Not every server follows aliases to their end.
func TestLookupFollowsAliasesItself(t *testing.T) {
	u := newUpstream(t, "alias.test. CNAME a.test.\na.test. A 93.184.0.1\n")
	u.set(func(_ dns.ResponseWriter, m *dns.Msg) { m.Answer = m.Answer[:1] })
	if got := ask(t, newResolver(t, u, ""), "alias.test", dns.TypeA); !slices.Equal(texts(got.addresses), []string{"93.184.0.1"}) {
		t.Errorf("%v, %v", got.addresses, got.err)
	}
}

// What a response says beside the answer is not believed.
func TestLookupBelievesOnlyTheAnswer(t *testing.T) {
	u := newUpstream(t, "a.test. A 93.184.0.1\n")
	stray := must(dns.NewRR("bank.test. 300 A 93.184.6.6"))
	r := newResolver(t, u, "")
	u.set(func(_ dns.ResponseWriter, m *dns.Msg) {
		m.Answer = append([]dns.RR{stray}, m.Answer...)
		m.Extra = append(m.Extra, stray)
	})
	if got := ask(t, r, "a.test", dns.TypeA); !slices.Equal(texts(got.addresses), []string{"93.184.0.1"}) {
		t.Errorf("%v, %v", got.addresses, got.err)
	}
	u.set(nil)
	if got := ask(t, r, "bank.test", dns.TypeA); !errors.Is(got.err, ErrNoSuchHost) {
		t.Errorf("a stray record was kept: %v, %v", got.addresses, got.err)
	}
	for name, change := range map[string]func(dns.ResponseWriter, *dns.Msg){
		"another name":  func(_ dns.ResponseWriter, m *dns.Msg) { m.Question[0].Name = "other.test." },
		"another kind":  func(_ dns.ResponseWriter, m *dns.Msg) { m.Question[0].Qtype = dns.TypeMX },
		"no question":   func(_ dns.ResponseWriter, m *dns.Msg) { m.Question = nil },
		"a query":       func(_ dns.ResponseWriter, m *dns.Msg) { m.Response = false },
		"another class": func(_ dns.ResponseWriter, m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS },
		"refused":       func(_ dns.ResponseWriter, m *dns.Msg) { m.Rcode = dns.RcodeRefused },
	} {
		u.set(change)
		if got := ask(t, newResolver(t, u, ""), "a.test", dns.TypeA); got.err == nil || len(got.addresses) > 0 {
			t.Errorf("%s: %v, %v", name, got.addresses, got.err)
		}
	}
}

func TestLookupAsksTheNextServer(t *testing.T) {
	broken, good := newUpstream(t, ""), newUpstream(t, "a.test. A 93.184.0.1\n")
	broken.set(func(_ dns.ResponseWriter, m *dns.Msg) { m.Rcode = dns.RcodeServerFailure })
	closed := must(net.ListenPacket("udp", "127.0.0.1:0"))
	nobody := must(netip.ParseAddrPort(closed.LocalAddr().String()))
	closed.Close()
	r := newResolver(t, good, "")
	r.servers = []netip.AddrPort{nobody, broken.address, good.address}
	if got := ask(t, r, "a.test", dns.TypeA); !slices.Equal(texts(got.addresses), []string{"93.184.0.1"}) {
		t.Errorf("%v, %v", got.addresses, got.err)
	}
}

func TestLookupLongAnswerByTCP(t *testing.T) {
	var zone strings.Builder
	for i := range 200 {
		fmt.Fprintf(&zone, "long.test. A 93.184.1.%d\n", i)
	}
	u := newUpstream(t, zone.String())
	if got := ask(t, newResolver(t, u, ""), "long.test", dns.TypeA); len(got.addresses) != 200 {
		t.Errorf("%d of 200 addresses, %v", len(got.addresses), got.err)
	}
}

func TestLookupSharesQueries(t *testing.T) {
	u := newUpstream(t, "a.test. A 93.184.0.1\n")
	r := newResolver(t, u, "")
	var wg sync.WaitGroup
	u.mu.Lock() // nothing is answered until all have asked
	for range 50 {
		wg.Go(func() {
			if got := ask(t, r, "a.test", dns.TypeA); got.err != nil {
				t.Error(got.err)
			}
		})
	}
	u.mu.Unlock()
	wg.Wait()
	if n := len(u.questions()); n > 3 {
		t.Errorf("50 callers asked %d times", n)
	}
}

func TestCacheExpiresAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cache{answers: map[question]answer{}}
		for i := range 3 * mostAnswers {
			c.put(question{fmt.Sprint(i), dns.TypeA}, answer{expires: time.Now().Add(time.Minute)})
			if len(c.answers) > mostAnswers {
				t.Fatalf("%d answers are kept", len(c.answers))
			}
		}
		last := question{fmt.Sprint(3*mostAnswers - 1), dns.TypeA}
		if _, found := c.get(last); !found {
			t.Error("the newest answer is lost")
		}
		time.Sleep(time.Minute)
		if _, found := c.get(last); found {
			t.Error("an expired answer is given")
		}
		for i := range mostAnswers {
			c.put(question{fmt.Sprint("new", i), dns.TypeA}, answer{expires: time.Now().Add(time.Minute)})
		}
		for i := range mostAnswers {
			if _, found := c.get(question{fmt.Sprint("new", i), dns.TypeA}); !found {
				t.Fatal("an answer was dropped for expired ones")
			}
		}
	})
}

// dnsmasq is the name server of many a network.
func TestLookupFromDnsmasq(t *testing.T) {
	packets, stream := sockets(t, "127.0.0.1:0")
	address := must(netip.ParseAddrPort(packets.LocalAddr().String()))
	packets.Close()
	stream.Close()
	user := fmt.Sprintf("--user=#%d", os.Getuid())
	if os.Getuid() == 0 {
		user = "--user=root"
	}
	command := exec.CommandContext(t.Context(), "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", user,
		"--pid-file=", "--bind-interfaces", "--listen-address=127.0.0.1", fmt.Sprintf("--port=%d", address.Port()),
		"--host-record=a.test,93.184.0.1,2606:2800::1", "--cname=alias.test,a.test", "--local=/test/")
	var out strings.Builder
	command.Stderr = &out
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		command.Process.Kill()
		command.Wait()
	}()
	for { // until it listens
		c, err := net.Dial("tcp", address.String())
		if err == nil {
			c.Close()
			break
		}
		if t.Context().Err() != nil || command.ProcessState != nil {
			t.Fatal(out.String())
		}
		time.Sleep(time.Millisecond)
	}
	r := newResolver(t, &upstream{address: address}, "")
	all, err := r.lookupBoth(t.Context(), "alias.test")
	if err != nil || !slices.Equal(texts(all), []string{"2606:2800::1", "93.184.0.1"}) {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := r.lookupBoth(t.Context(), "absent.test"); !errors.Is(err, ErrNoSuchHost) {
		t.Errorf("error %v, want ErrNoSuchHost", err)
	}
}
