package resolve

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	tryTimeout = 2 * time.Second
	tries      = 2 // of each server
)

// exchange asks the servers in turn until one says yes or no.
func (r *Resolver) exchange(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	var failures []error
	for range tries {
		for _, server := range r.servers {
			m, err := exchangeWith(ctx, server, name, kind)
			if err == nil {
				return m, nil
			}
			if len(failures) < len(r.servers) { // what a server says again is not news
				failures = append(failures, fmt.Errorf("ask %s: %w", server, err))
			}
			if ctx.Err() != nil {
				return nil, errors.Join(failures...)
			}
		}
	}
	return nil, errors.Join(failures...)
}

// exchangeWith asks one server, by TCP when the answer is too long for UDP.
func exchangeWith(ctx context.Context, server netip.AddrPort, name string, kind uint16) (*dns.Msg, error) {
	query := new(dns.Msg).SetQuestion(name, kind)
	query.SetEdns0(maxUDPSize, false)
	for _, network := range []string{"udp", "tcp"} {
		client := dns.Client{Net: network, Timeout: tryTimeout}
		m, _, err := client.ExchangeContext(ctx, query, server.String())
		if err != nil {
			return nil, err
		}
		if err := checkResponse(m, name, kind); err != nil {
			return nil, err
		}
		if !m.Truncated {
			return m, nil
		}
	}
	return nil, errors.New("the answer is cut short even by TCP")
}

// checkResponse refuses what is no answer to the question.
func checkResponse(m *dns.Msg, name string, kind uint16) error {
	switch {
	case !m.Response || len(m.Question) != 1 || m.Question[0].Qtype != kind || m.Question[0].Qclass != dns.ClassINET ||
		!strings.EqualFold(m.Question[0].Name, name):
		return errors.New("the response is to another question")
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return fmt.Errorf("the server said %s", dns.RcodeToString[m.Rcode])
	}
	return nil
}
