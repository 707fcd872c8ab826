package proxy

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"sallyport/control/api"
)

// checkTarget makes sure that the request is for the host the connection was
// made for (RFC 9110 section 7.4), and gives that host's one spelling. It is
// asked for every request, as one connection may carry several.
func checkTarget(facts *Facts, r *http.Request) (string, *Error) {
	name, port := r.Host, ""
	if strings.Contains(name, ":") {
		var err error
		if name, port, err = net.SplitHostPort(r.Host); err != nil {
			return "", Errorf(http.StatusBadRequest, "bad_host", "the Host %q is not a name with an optional port", r.Host)
		}
	}
	host, err := api.NormalizeHost(name)
	if err != nil {
		return "", Errorf(http.StatusBadRequest, "bad_host", "the Host %q: %v", r.Host, err)
	}
	if facts.Direct {
		if facts.Port, err = directPort(port); err != nil {
			return "", Errorf(http.StatusBadRequest, "bad_host", "the target's port: %v", err)
		}
	}
	if port != "" && port != strconv.Itoa(int(facts.Port)) {
		return "", Errorf(http.StatusMisdirectedRequest, "misdirected", "the request is for port %s, the connection for port %d", port, facts.Port)
	}
	if facts.TLS && host != facts.SNI {
		return "", Errorf(http.StatusMisdirectedRequest, "misdirected", "the request is for %s, the TLS connection for %s; open a connection of its own", host, facts.SNI)
	}
	if other, found := r.Header["Host"]; found && (len(other) != 1 || other[0] != r.Host) {
		return "", Errorf(http.StatusBadRequest, "bad_host", "the request names two hosts")
	}
	return host, nil
}

// directPort is the port that a target in absolute-form names.
func directPort(text string) (uint16, error) {
	if text == "" {
		return 80, nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port", text)
	}
	return uint16(n), nil
}

// connectTarget is where a CONNECT asks to be joined to (RFC 9112 section 3.2.3).
func connectTarget(r *http.Request) (host string, port uint16, refusal *Error) {
	name, text, err := net.SplitHostPort(r.Host)
	if err == nil && text != "" {
		port, err = directPort(text)
	}
	if err != nil || text == "" || name == "" {
		return "", 0, Errorf(http.StatusBadRequest, "bad_target", "CONNECT needs HOST:PORT")
	}
	return name, port, nil
}

// takeAbsoluteForm makes a request of one that named its host in its target, as
// clients of a proxy do (RFC 9112 section 3.2.2). Others may not.
func takeAbsoluteForm(r *http.Request) {
	if r.URL.Scheme == "http" && r.URL.Host != "" && r.URL.User == nil && r.URL.Opaque == "" {
		r.RequestURI = r.RequestURI[strings.Index(r.RequestURI, "://")+3:]
		if slash := strings.IndexAny(r.RequestURI, "/?"); slash < 0 {
			r.RequestURI = "/"
		} else if r.RequestURI = r.RequestURI[slash:]; r.RequestURI[0] == '?' {
			r.RequestURI = "/" + r.RequestURI
		}
		r.URL.Scheme, r.URL.Host = "", ""
	}
}

// checkShape refuses what no forwarded request may be.
func checkShape(r *http.Request) *Error {
	if r.Method == http.MethodConnect {
		return Errorf(http.StatusMethodNotAllowed, "method_refused", "CONNECT has no place on an intercepted connection; dial the host itself")
	}
	if strings.ToUpper(r.Method) != r.Method {
		// Some servers make the method of it that a policy may forbid.
		return Errorf(http.StatusBadRequest, "malformed_request", "the method %q has small letters; methods are case-sensitive (RFC 9110 section 9.1)", r.Method)
	}
	return checkForm(r)
}

// checkForm refuses a target that is not a plain path with a query (RFC 9112
// section 3.2.1). HTTP/2 lets any text by as :path, and what reads as a full URL
// at the upstream would choose another host there.
func checkForm(r *http.Request) *Error {
	if r.RequestURI == "*" && r.Method == http.MethodOptions {
		return nil
	}
	if !strings.HasPrefix(r.RequestURI, "/") || r.URL.Opaque != "" || r.URL.Host != "" {
		return Errorf(http.StatusBadRequest, "bad_target", "the request's target is not a path that begins with /")
	}
	for i := range len(r.RequestURI) {
		if c := r.RequestURI[i]; c <= ' ' || c >= 0x7f || c == '#' || c == '\\' {
			return Errorf(http.StatusBadRequest, "bad_target", "the request's target has a character that must be percent-encoded")
		}
	}
	return nil
}

// ignoreH2C takes the offer away to go on in HTTP/2 on a plain connection, which
// RFC 9113 section 3.1 has made obsolete: what followed would be read by nobody.
func ignoreH2C(header http.Header) {
	if strings.EqualFold(header.Get("Upgrade"), "h2c") {
		header.Del("Upgrade")
		header.Del("Http2-Settings")
	}
}

// checkInjected refuses what would hand an injected credential back.
func checkInjected(r *http.Request, upgrade bool) *Error {
	switch {
	case strings.EqualFold(r.Method, http.MethodTrace) || strings.EqualFold(r.Method, "TRACK"):
		return Errorf(http.StatusMethodNotAllowed, "method_refused", "%s would echo the credential", r.Method)
	case r.Header.Get("Upgrade") == "":
		return nil
	case !upgrade:
		return Errorf(http.StatusNotImplemented, "upgrade_refused", "a connection that carries a credential can't change to %q, as what follows can't be redacted; for WebSocket the credential can allow it: --allow-websocket", r.Header.Get("Upgrade"))
	}
	return checkWebSocket(r)
}
