// Package console serves the web console: static pages whose scripts call the admin
// API, and the session by which they do. It decides nothing. What a call of
// /console/v1 may do is for the API to say, which is asked with the session's value in
// the place of a token, and takes no cookie itself.
//
//	browser ─┬─ /console/…        page, scripts, style: the same for everybody
//	         ├─ /console/session  token or login in, session out; its end
//	         ├─ /console/v1/…     ─▶ session of cookie and header ─▶ /v1/… of the API
//	         ├─ /console/export   ─▶ the same, of cookie and form: audit events as a file
//	         └─ all else          ─▶ the API, untouched
package console

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"sallyport/control"
)

// Console is what is around the admin API.
type Console struct {
	api   http.Handler
	host  string // of the URL that browsers find it at; empty: unknown
	files map[string]file
}

// base is where the console is.
const base = "/console/"

// New puts the console around the admin API. address is the URL that browsers find it
// at, with no path, or empty if nobody said.
func New(api http.Handler, address string) (*Console, error) {
	c := &Console{api: api}
	if address != "" {
		u, err := ParseURL(address)
		if err != nil {
			return nil, err
		}
		c.host = u.Host
	}
	var err error
	c.files, err = load()
	return c, err
}

// ParseURL reads the URL that browsers find the console at.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" ||
		u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return nil, fmt.Errorf("the console's URL %q: want https://HOST or https://HOST:PORT; http only for this machine", text)
	}
	return u, nil
}

// RedirectURL is where an OpenID Connect issuer sends browsers back to, for a console
// at that URL.
func RedirectURL(address string) (string, error) { return redirect(address, callback) }

// CodesTo is where authorization servers send browsers back to that credentials are logged
// in for. It is another than RedirectURL, so that a code of one is never taken for the other's.
func CodesTo(address string) (string, error) { return redirect(address, authorized) }

// Names of the pages that browsers come back to, with codes in the address.
const callback, authorized = "callback", "authorized"

func redirect(address, name string) (string, error) {
	u, err := ParseURL(address)
	if err != nil {
		return "", err
	}
	return u.Scheme + "://" + u.Host + base + name, nil
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// ServeHTTP answers what is of the console, and hands the rest on.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	front := (path == "/" || path+"/" == base) && (r.Method == http.MethodGet || r.Method == http.MethodHead)
	if !front && !strings.HasPrefix(path, base) {
		c.api.ServeHTTP(w, r)
		return
	}
	protect(w.Header())
	switch {
	case !c.known(r):
		refuse(w, http.StatusMisdirectedRequest, control.CodeInvalid, "the console is not at this name: ask for it by the machine's address, or start sallyport-control with --console-url")
	case front:
		http.Redirect(w, r, base, http.StatusSeeOther)
	case path == base+"session":
		c.session(w, r)
	case path == base+"export":
		c.export(w, r)
	case strings.HasPrefix(path, base+"v1/"):
		c.call(w, r)
	default:
		c.static(w, r, strings.TrimPrefix(path, base))
	}
}

// protect sets what every answer has: nothing but what comes from here runs, is shown,
// is asked or may show this; nobody else may hold it.
func protect(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY") // for who does not know frame-ancestors
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store")
}

// known reports whether the request is for a name that is ours. A name that somebody
// leads to this machine for the length of a page (DNS rebinding) is not: it is neither
// an address nor what the certificate was chosen by.
func (c *Console) known(r *http.Request) bool {
	if c.host != "" && strings.EqualFold(r.Host, c.host) {
		return true
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || strings.EqualFold(host, "localhost") {
		return true
	}
	return r.TLS != nil && r.TLS.ServerName != "" && strings.EqualFold(host, r.TLS.ServerName)
}

// refuse answers as the API does (RFC 9457).
func refuse(w http.ResponseWriter, status int, code control.Code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "code": code, "detail": detail})
}
