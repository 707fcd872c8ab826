package identity

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
)

// ParseControl reads where the control plane is: https://HOST:PORT, or the addresses
// of its replicas with commas between them.
func ParseControl(text string) ([]*url.URL, error) {
	var replicas []*url.URL
	for address := range strings.SplitSeq(text, ",") {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("the control plane's address %q: want https://HOST:PORT, or several with commas", address)
		}
		replicas = append(replicas, u)
	}
	return replicas, nil
}

// dialer connects to any of the replicas: to the last that answered, and when it
// does not, to those after it.
type dialer struct {
	net.Dialer
	addresses []string
	last      atomic.Int64 // index of the one that answered
}

func newDialer(replicas []*url.URL) *dialer {
	d := &dialer{Dialer: net.Dialer{Timeout: dialTimeout}}
	for _, u := range replicas {
		address := u.Host
		if u.Port() == "" {
			address = net.JoinHostPort(u.Hostname(), "443")
		}
		d.addresses = append(d.addresses, address)
	}
	return d
}

// dial connects; which address was asked for is the same for all.
func (d *dialer) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	var failed error
	first := d.last.Load()
	for i := range int64(len(d.addresses)) {
		at := (first + i) % int64(len(d.addresses))
		conn, err := d.DialContext(ctx, network, d.addresses[at])
		if err == nil {
			d.last.Store(at)
			return conn, nil
		}
		failed = errors.Join(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}
