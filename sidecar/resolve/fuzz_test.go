package resolve

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// Whatever the sandbox asks, the answer can be sent and is about the question, it
// has addresses alone, and of a name that may not be asked for nothing leaves.
func FuzzRespond(f *testing.F) {
	for _, name := range []string{"a.test.", "localhost.", "x.LOCALHOST.", ".", "api.stripe.com.", "a\\.b.test.", strings.Repeat("a.", 100)} {
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeANY, dns.TypeOPT, dns.TypeAXFR} {
			query := new(dns.Msg).SetQuestion(name, kind)
			f.Add(must(query.Pack()))
			query.SetEdns0(4096, true)
			f.Add(must(query.Pack()))
		}
	}
	two := new(dns.Msg).SetQuestion("a.test.", dns.TypeA)
	two.Question = append(two.Question, dns.Question{Name: "b.test.", Qtype: dns.TypeA, Qclass: dns.ClassINET})
	f.Add(must(two.Pack()))
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { server.Close() })
	r, err := New(Config{
		ConnectTo: []string{"api.stripe.com::127.0.0.1:1"}, Log: quiet, Ask: func(string) bool { return false },
		Servers: []netip.AddrPort{must(netip.ParseAddrPort(server.LocalAddr().String()))},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		query := new(dns.Msg)
		if query.Unpack(packet) != nil {
			return
		}
		answer := r.respond(t.Context(), query)
		response, err := answer.Pack()
		if err != nil || new(dns.Msg).Unpack(response) != nil {
			t.Fatalf("the response to %v can't be sent: %v", query, err)
		}
		for _, record := range answer.Answer {
			asked := query.Question[0]
			switch record.(type) {
			case *dns.A, *dns.AAAA:
			default:
				t.Fatalf("%v is answered by %v", query, record)
			}
			if h := record.Header(); h.Rrtype != asked.Qtype || h.Name != asked.Name {
				t.Fatalf("%v is answered by %v", query, record)
			}
		}
		if len(answer.Ns) > 0 || len(answer.Extra) > 1 {
			t.Fatalf("%v is answered by %v", query, answer)
		}
		// A question that had left would have been waited for, to the end of the timeout.
		if n := len(r.cache.answers); n != 0 {
			t.Fatalf("%v was asked for upstream", query)
		}
	})
}

// Whatever an upstream server answers, no address is taken of it but those of the
// name that was asked for, or of what that is an alias of.
func FuzzCollapse(f *testing.F) {
	for _, text := range []string{
		"a.test. 60 A 93.184.0.1", "a.test. 60 CNAME b.test.\nb.test. 60 A 93.184.0.1", "b.test. 60 A 10.0.0.1", "a.test. 60 CNAME a.test.",
		"a.test. 60 CNAME b.test.\nb.test. 60 CNAME a.test.", "A.TEST. 4294967295 AAAA ::ffff:10.0.0.1", "a.test. 60 CH A 1.2.3.4", "a.test. 0 A 0.0.0.0\na.test. 1 A 93.184.0.2",
	} {
		m := new(dns.Msg).SetQuestion("a.test.", dns.TypeA)
		for line := range strings.SplitSeq(text, "\n") {
			if rr, err := dns.NewRR(line); err == nil {
				m.Answer = append(m.Answer, rr)
			}
		}
		f.Add(must(m.Pack()), false)
		f.Add(must(m.Pack()), true)
	}
	f.Fuzz(func(t *testing.T, packet []byte, six bool) {
		m := new(dns.Msg)
		if m.Unpack(packet) != nil {
			return
		}
		kind := dns.TypeA
		if six {
			kind = dns.TypeAAAA
		}
		last, addresses, ttl := collapse(m, "a.test.", kind)
		if ttl < 0 || ttl > mostTTL || absence(m) < leastTTL || absence(m) > mostAbsent {
			t.Fatalf("%v is kept for %v or %v", m, ttl, absence(m))
		}
		named := map[string]bool{"a.test.": true}
		for range m.Answer { // as many aliases as there can be
			for _, record := range m.Answer {
				if alias, ok := record.(*dns.CNAME); ok && named[strings.ToLower(alias.Hdr.Name)] {
					named[strings.ToLower(alias.Target)] = true
				}
			}
		}
		if !named[strings.ToLower(last)] {
			t.Fatalf("%v leads to %q", m, last)
		}
		for _, address := range addresses {
			found := false
			for _, record := range m.Answer {
				has := false
				switch v := record.(type) {
				case *dns.A:
					has = v.A.Equal(address.AsSlice())
				case *dns.AAAA:
					has = v.AAAA.Equal(address.AsSlice())
				}
				found = found || has && named[strings.ToLower(record.Header().Name)]
			}
			if !found {
				t.Fatalf("%v gives %v", m, address)
			}
		}
	})
}
