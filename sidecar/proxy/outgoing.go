package proxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// outgoing makes the request for the upstream of one that a client sent, which stays as
// it came: it may be decided anew, while net/http still has what was made of it first.
func outgoing(ctx context.Context, r *http.Request, t *travel) *http.Request {
	out := r.WithContext(ctx)
	out.Header = r.Header.Clone()
	out.RequestURI, out.RemoteAddr, out.Close = "", "", false
	scheme, authority := "http", t.Host
	if t.TLS {
		scheme = "https"
	}
	if t.TLS && t.Port != 443 || !t.TLS && t.Port != 80 {
		authority = net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
	}
	u := *r.URL
	u.Scheme, u.Host = scheme, authority
	out.URL, out.Host = &u, authority

	upgrade := upgradeType(r.Header)
	trailers := httpguts.HeaderValuesContainsToken(r.Header["Te"], "trailers")
	removeHopByHop(out.Header)
	delete(out.Header, "Content-Length") // as ContentLength says
	if upgrade != "" {
		out.Header["Connection"], out.Header["Upgrade"] = []string{"Upgrade"}, []string{upgrade}
	}
	if trailers {
		out.Header["Te"] = []string{"trailers"}
	}
	if _, found := out.Header["User-Agent"]; !found {
		out.Header["User-Agent"] = []string{""} // else net/http names itself
	}
	if r.ContentLength == 0 || r.Body == http.NoBody {
		out.Body, out.Trailer = nil, nil
		delete(out.Header, "Expect") // RFC 9110 section 10.1.1; waitress would wait for ever
	}
	return out
}

// upgradeType is the protocol that a message changes to.
func upgradeType(h http.Header) string {
	if !httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade") {
		return ""
	}
	return h.Get("Upgrade")
}

// keepPath keeps the spelling of a path that has characters it should have
// escaped. net/url would spell all of it anew, and take %2F for a slash.
func keepPath(u *url.URL, target string) {
	path, _, _ := strings.Cut(target, "?")
	if !strings.ContainsAny(path, unescaped) {
		return
	}
	var b strings.Builder
	for i := range len(path) {
		if strings.IndexByte(unescaped, path[i]) >= 0 {
			fmt.Fprintf(&b, "%%%02X", path[i])
		} else {
			b.WriteByte(path[i])
		}
	}
	if plain, err := url.PathUnescape(b.String()); err == nil {
		u.Path, u.RawPath = plain, b.String()
	}
}

// unescaped are the printable characters that a path may hold only escaped (RFC
// 3986 section 3.3) and that clients send as they are.
const unescaped = "\"<>^`{|}"

// idempotent reports whether a request may be sent again when it is not known
// what became of it (RFC 9110 section 9.2.2).
func idempotent(method string) bool {
	return slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete, http.MethodTrace}, method)
}
