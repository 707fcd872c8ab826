package resolve

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"sallyport/control/api"
)

const (
	// The sandbox's questions that go upstream. A client needs few; a tunnel many.
	queryRate, queryBurst = 50, 200
	// What a name may hold of a message in a question that goes upstream.
	longestName, mostLabels = 200, 12

	mostStreams   = 64
	streamTimeout = 5 * time.Second
	longestAnswer = time.Minute // TTL
)

// ServeDNS answers the sandbox's queries until ctx ends, closes both sockets
// and returns nil.
//
// Nothing connects by these answers: the interception looks at the names that
// clients speak. So A and AAAA are answered with the name's public addresses,
// and with a synthetic one where there is none that the sandbox should know.
// Names that connect-to redirects, and those that Ask is against, are not asked
// upstream at all. Other kinds of
// records are never asked for, HTTPS and SVCB so that no client finds keys for
// an encrypted ClientHello.
func (r *Resolver) ServeDNS(ctx context.Context, packets net.PacketConn, stream net.Listener) error {
	timeout := func() time.Duration { return streamTimeout }
	group, ctx := errgroup.WithContext(ctx)
	for _, server := range []*dns.Server{
		{PacketConn: packets, UDPSize: maxUDPSize},
		{Listener: netutil.LimitListener(stream, mostStreams), ReadTimeout: streamTimeout, WriteTimeout: streamTimeout, IdleTimeout: timeout},
	} {
		server.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { r.serve(ctx, w, q) })
		group.Go(func() error { return run(ctx, server) })
	}
	return group.Wait()
}

// run serves until ctx ends.
func run(ctx context.Context, server *dns.Server) error {
	started, ended := make(chan struct{}), make(chan error, 1)
	server.NotifyStartedFunc = func() { close(started) }
	go func() { ended <- server.ActivateAndServe() }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve the sandbox's DNS: %w", err)
	case <-started:
	}
	select {
	case err := <-ended:
		return fmt.Errorf("serve the sandbox's DNS: %w", err)
	case <-ctx.Done():
		_ = server.Shutdown() // fails only if it has ended meanwhile
		<-ended
		return nil
	}
}

// serve answers one query. A response that can't be written is the client's loss.
func (r *Resolver) serve(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) {
	m := r.respond(ctx, q)
	size := dns.MaxMsgSize
	if w.RemoteAddr().Network() == "udp" {
		size = dns.MinMsgSize
	}
	if opt := q.IsEdns0(); opt != nil {
		size = max(size, min(int(opt.UDPSize()), maxUDPSize))
	}
	m.Truncate(size)
	_ = w.WriteMsg(m)
}

func (r *Resolver) respond(ctx context.Context, q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	if q.IsEdns0() != nil {
		m.SetEdns0(maxUDPSize, false)
	}
	m.Rcode = r.answer(ctx, m, q)
	return m
}

// answer puts the answers to q into m and gives its response code.
func (r *Resolver) answer(ctx context.Context, m, q *dns.Msg) int {
	if len(q.Question) != 1 { // a message may end after its header
		return dns.RcodeFormatError
	}
	opt, asked := q.IsEdns0(), q.Question[0]
	switch {
	case q.Opcode != dns.OpcodeQuery:
		return dns.RcodeNotImplemented
	case opt != nil && opt.Version() != 0:
		return dns.RcodeBadVers
	case asked.Qclass != dns.ClassINET:
		return dns.RcodeRefused
	case asked.Qtype == dns.TypeANY, asked.Qtype == dns.TypeAXFR, asked.Qtype == dns.TypeIXFR:
		return dns.RcodeNotImplemented
	case asked.Qtype != dns.TypeA && asked.Qtype != dns.TypeAAAA:
		return dns.RcodeSuccess
	}
	name, err := api.NormalizeHost(asked.Name)
	if err != nil {
		return dns.RcodeNameError // no request could ever be for it
	}
	found, code := r.answerFor(ctx, question{name, asked.Qtype}, r.queries.Allow)
	ttl := uint32(min(max(time.Until(found.expires), leastTTL), longestAnswer) / time.Second)
	for _, a := range found.addresses {
		m.Answer = append(m.Answer, record(asked, a, ttl))
	}
	return code
}

// answerFor is the addresses that the sandbox is told, and the response code.
// allow is asked before a question goes upstream.
func (r *Resolver) answerFor(ctx context.Context, q question, allow func() bool) (answer, int) {
	synthetic := answer{addresses: []netip.Addr{syntheticAddress(q)}, expires: time.Now().Add(longestAnswer)}
	if strings.HasSuffix("."+q.name, ".localhost") { // RFC 6761 section 6.3
		a, _ := r.known(question{"localhost", q.kind})
		return a, dns.RcodeSuccess
	}
	if r.redirected(q.name) || !r.mayAsk(q.name) {
		return synthetic, dns.RcodeSuccess
	}
	found, known := r.known(q)
	if !known {
		if len(q.name) > longestName || strings.Count(q.name, ".") >= mostLabels || !allow() {
			r.warn("DNS query of the sandbox refused: too long a name or too many queries", "name_length", len(q.name))
			return answer{}, dns.RcodeRefused
		}
		found = r.lookup(ctx, q)
	}
	switch {
	case errors.Is(found.err, ErrNoSuchHost):
		return answer{}, dns.RcodeNameError
	case found.err != nil:
		r.warn("DNS query of the sandbox not answered by the servers of this machine's resolv.conf", "name", q.name, "error", found.err)
		return answer{}, dns.RcodeServerFailure
	case len(found.addresses) == 0:
		return answer{}, dns.RcodeSuccess
	}
	public := answer{expires: found.expires}
	for _, a := range found.addresses {
		if r.guard.Public(a) == nil {
			public.addresses = append(public.addresses, a)
		}
	}
	if len(public.addresses) == 0 {
		return synthetic, dns.RcodeSuccess
	}
	return public, dns.RcodeSuccess
}

func (r *Resolver) warn(text string, attributes ...any) {
	r.warning.Do(func() { r.log.Warn(text, attributes...) })
}

// syntheticAddress belongs to nobody (RFC 2544, RFC 5180), so that a client
// connects at all and is intercepted. Every name has one of its own, as far as
// there are enough: of what is no TLS and no HTTP, nothing else tells for whom it is.
func syntheticAddress(q question) netip.Addr {
	hash := sha256.Sum256([]byte(q.name))
	if q.kind == dns.TypeA {
		return netip.AddrFrom4([4]byte{198, 18 | hash[0]&1, hash[1], hash[2]})
	}
	a := [16]byte{0x20, 0x01, 0x00, 0x02}
	copy(a[8:], hash[:8])
	return netip.AddrFrom16(a)
}

func record(asked dns.Question, a netip.Addr, ttl uint32) dns.RR {
	header := dns.RR_Header{Name: asked.Name, Rrtype: asked.Qtype, Class: dns.ClassINET, Ttl: ttl}
	if asked.Qtype == dns.TypeA {
		return &dns.A{Hdr: header, A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: header, AAAA: a.AsSlice()}
}
