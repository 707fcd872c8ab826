package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"sallyport/control/api"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/proxy"
)

// overrides are fields by which a request asks some servers to take it for one
// with another method or path.
var overrides = []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url"}

// permit asks the policy about a request.
func permit(now *served, x *proxy.Exchange, r *http.Request) error {
	if !x.TLS && x.SNI != "" && x.Host != x.SNI {
		return proxy.Errorf(http.StatusMisdirectedRequest, "misdirected", "the request is for %s, the CONNECT for %s; open a connection of its own", x.Host, x.SNI)
	}
	if now.table.Refined(x.Host, x.Port) {
		for _, name := range overrides {
			if _, found := r.Header[name]; found {
				return proxy.Errorf(http.StatusBadRequest, "bad_request", "the agent's policy for %s goes by methods or paths; the field %s, which overrides them at some servers, is refused", x.Host, name)
			}
		}
	}
	return now.table.Permit(x.Host, x.Port, x.TLS, x.Method, r.URL.EscapedPath())
}

// dial connects to the upstream of a request. The policy may deny the address.
func (w *worker) dial(ctx context.Context, host string, port uint16) (net.Conn, error) {
	conn, err := w.resolver.Dial(ctx, host, port)
	if err != nil {
		return nil, err
	}
	remote, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("read the upstream's address: %w", err)
	}
	r := w.served.Load().table.Route(bind.Destination{Host: host, Address: remote.Addr().Unmap(), Port: port, TLS: true})
	if r.Action == api.Action_ACTION_DENY && r.Rule > 0 {
		conn.Close()
		return nil, &bind.DeniedError{Rule: r.Rule}
	}
	return conn, nil
}

// upgrades are the connections that have changed to another protocol, so that no
// further request of theirs will be decided about.
type upgrades struct {
	mu   sync.Mutex
	open map[*upgraded]struct{}
}

// upgraded is the upstream's end of one.
type upgraded struct {
	io.ReadWriteCloser
	all *upgrades
	may func() bool // go on
}

// watch ends a connection that changes its protocol as soon as its request would
// be decided otherwise than it was: not permitted, or with another credential. A
// new version of the same does not end it.
func (w *worker) watch(response *http.Response, x *proxy.Exchange, r *http.Request, credential string) error {
	body, ok := response.Body.(io.ReadWriteCloser)
	if response.StatusCode != http.StatusSwitchingProtocols || !ok {
		return nil
	}
	host, port, secure, method, path := x.Host, x.Port, x.TLS, x.Method, r.URL.EscapedPath()
	c := &upgraded{ReadWriteCloser: body, all: &w.upgrades, may: func() bool {
		now := w.served.Load()
		if now.refusal != nil || now.table.Permit(host, port, secure, method, path) != nil {
			return false
		}
		binding, err := now.table.Match(host, port, secure)
		return err == nil && binding.GetCredentialId() == credential && (credential == "" || binding.GetAllowWebsocket())
	}}
	// Whoever changes what is served looks at the open ones afterwards.
	w.upgrades.add(c)
	if !c.may() {
		return errors.Join(errPolicyChanged, c.Close())
	}
	response.Body = c
	return nil
}

var errPolicyChanged = proxy.Errorf(http.StatusForbidden, "policy_denied", "the agent's policy has changed")

func (u *upgrades) add(c *upgraded) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open == nil {
		u.open = make(map[*upgraded]struct{})
	}
	u.open[c] = struct{}{}
}

func (c *upgraded) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.mu.Unlock()
	return c.ReadWriteCloser.Close()
}

// review ends those that may not go on.
func (u *upgrades) review() {
	u.mu.Lock()
	var ended []*upgraded
	for c := range u.open {
		if !c.may() {
			ended = append(ended, c)
		}
	}
	u.mu.Unlock()
	for _, c := range ended {
		_ = c.Close() // it may have ended meanwhile
	}
}
