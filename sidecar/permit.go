package sidecar

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"sallyport/control/api"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/proxy"
)

// override gives the field, if there is one, by which a request asks some servers
// to take it for one with another method or path, or to read from or write to another
// path as well. CGI makes no difference between a hyphen and an underscore.
func override(r *http.Request) (name string, found bool) {
	moves := r.Method == "COPY" || r.Method == "MOVE" // RFC 4918 section 10.3
	for name := range r.Header {
		if moves && name == "Destination" {
			return name, true
		}
		if len(name) < len("X-HTTP-Method") || name[0]|0x20 != 'x' {
			continue
		}
		switch field := strings.ToLower(strings.ReplaceAll(name, "_", "-")); field {
		case "x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url":
			return name, true
		default:
			// Of storage: x-amz-copy-source, x-goog-copy-source, x-ms-rename-source and their like.
			if strings.HasSuffix(field, "-copy-source") || strings.HasSuffix(field, "-rename-source") {
				return name, true
			}
		}
	}
	return "", false
}

// permit asks the policy about a request.
func permit(now *served, x *proxy.Exchange, r *http.Request) (bind.Permitted, error) {
	var none bind.Permitted
	if !x.TLS && x.SNI != "" && x.Host != x.SNI {
		return none, proxy.Errorf(http.StatusMisdirectedRequest, "misdirected", "the request is for %s, the CONNECT for %s; open a connection of its own", x.Host, x.SNI)
	}
	if now.table.Refined(x.Host, x.Port) {
		if name, found := override(r); found {
			return none, proxy.Errorf(http.StatusBadRequest, "bad_request", "the agent's policy for %s goes by methods or paths; the field %s, which names others at some servers, is refused", x.Host, name)
		}
	}
	return now.table.Permit(requestOf(x, r))
}

// requestOf is what the policy is asked about.
func requestOf(x *proxy.Exchange, r *http.Request) bind.Request {
	return bind.Request{Host: x.Host, Port: x.Port, TLS: x.TLS, Method: r.Method, Path: r.URL.EscapedPath()}
}

// errSteered is that of a request that became another one after it was permitted,
// which is our fault.
var errSteered = proxy.Errorf(http.StatusInternalServerError, "misdirected", "the request is not the one that was permitted; nothing was sent")

// check makes sure, before a credential goes into it, that a request is the one
// that was permitted, and is within the credential's limits: to the same place, by
// the same method, for the same path.
func check(use bind.Use, out *http.Request) error {
	port := 80
	if out.URL.Scheme == "https" {
		port = 443
	}
	if text := out.URL.Port(); text != "" {
		var err error
		if port, err = strconv.Atoi(text); err != nil {
			return errSteered
		}
	}
	is := use.Is(bind.Request{
		Host: out.URL.Hostname(), Port: uint16(port), TLS: out.URL.Scheme == "https", Method: out.Method, Path: out.URL.EscapedPath(),
	})
	if !is || out.Host != out.URL.Host {
		return errSteered
	}
	return nil
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
	if _, err := netip.ParseAddr(host); err == nil {
		host = ""
	}
	if err := w.served.Load().table.Connect(host, port, remote.Addr().Unmap()); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// holds gives what says whether a request would still be decided as it was: the
// policy permits it, with the same credential or again with none, and where it was
// connected to is judged by the same rules. A new version of the credential changes
// nothing.
func (w *worker) holds(then *served, x *proxy.Exchange, r *http.Request, credential string) func() bool {
	asked := requestOf(x, r)
	return func() bool {
		now := w.served.Load()
		permitted, err := now.table.Permit(asked)
		if now.refusal != nil || err != nil || !now.table.SameConnects(then.table, asked.Host, asked.Port) {
			return false
		}
		b, same := serving(permitted, credential)
		return same && (b == nil || mayGoOn(permitted, b, w.identity.Now()))
	}
}

// serving gives the binding of a credential that serves a request, nil of "", which is
// none. same is false if another does, or none.
func serving(permitted bind.Permitted, credential string) (b *api.Binding, same bool) {
	for _, captured := range permitted.Captured() {
		if captured.GetCredentialId() == credential {
			return captured, true
		}
	}
	b, err := permitted.Binding()
	return b, err == nil && b.GetCredentialId() == credential
}

// mayGoOn reports whether a WebSocket may go on with a credential.
func mayGoOn(permitted bind.Permitted, b *api.Binding, now time.Time) bool {
	_, err := permitted.Use(b, now)
	return err == nil && b.GetAllowWebsocket()
}
