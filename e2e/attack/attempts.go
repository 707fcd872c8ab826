package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// generator makes the cases of a target, each with a path that no other has.
type generator struct {
	*target
	origins *origins
	list    []attempt
}

func attempts(t *target, o *origins) []attempt {
	g := &generator{target: t, origins: o}
	g.controls()
	g.fronting()
	g.names()
	g.forms()
	g.pseudoFields()
	g.ownKeys()
	g.ports()
	g.proofs()
	g.redirects()
	g.destinations()
	g.resumption()
	g.nested()
	g.absolute()
	if t.sallyport {
		g.paths()
		g.parameters()
		g.wildcards()
		g.rebinding()
	}
	slices.SortStableFunc(g.list, func(a, b attempt) int { return strings.Compare(a.name, b.name) })
	return g.list
}

func (g *generator) path() string { return marked(len(g.list)) }

// add adds a case with a name made of its parts.
func (g *generator) add(a attempt, name ...string) {
	if a.door.dial != nil {
		name = append(name, a.door.name)
	}
	if !a.plain {
		name = append(name, protocolName(a.http2))
	}
	a.name = strings.Join(name, "/")
	g.list = append(g.list, a)
}

func protocolName(http2 bool) string {
	if http2 {
		return "h2"
	}
	return "h1"
}

// events is what the audit log is to have of a request that was read.
func events(want outcome, path string) audited {
	decision := map[outcome]string{delivered: "inject", unbound: "inspect", refused: "refuse"}[want]
	if decision == "" {
		return audited{}
	}
	return audited{Path: path, Decision: decision}
}

// each calls f for each door and protocol, with the host that both sides speak it to.
func (g *generator) each(f func(base attempt, host string, get func(host, path string) message)) {
	for _, d := range g.doors {
		for _, http2 := range []bool{false, true} {
			host, get := g.hostFor(http2), get1
			if http2 {
				get = get2
			}
			f(attempt{door: d, http2: http2, address: host + ":443", sni: host}, host, get)
		}
	}
}

// hostFor is a bound host that is served over HTTP/2, if that is wanted and there is one.
func (g *generator) hostFor(http2 bool) string {
	hosts := g.credentials[0].hosts
	if i := slices.IndexFunc(hosts, func(h string) bool { return strings.HasPrefix(h, "h2") == http2 }); i >= 0 {
		return hosts[i]
	}
	return hosts[0]
}

// controls are no attacks. They show that the credential is there to be had.
func (g *generator) controls() {
	g.each(func(a attempt, host string, get func(host, path string) message) {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for times := 1; times <= 3; times++ {
				a.version, a.want, a.messages = version, delivered, nil
				path := g.path()
				for range times {
					a.messages = append(a.messages, get(host, path))
				}
				a.audited = events(delivered, path)
				g.add(a, "control", tls.VersionName(version)[4:], fmt.Sprint("request-", times))
			}
		}
		a.version, a.want = 0, unbound
		a.address, a.sni = elsewhere+":443", elsewhere
		path := g.path()
		a.messages, a.audited = []message{get(elsewhere, path)}, events(unbound, path)
		g.add(a, "control", "elsewhere")
	})
}

// fronting is a connection to one host with a request for another: the first, or after
// one for the connection's own.
func (g *generator) fronting() {
	g.each(func(a attempt, bound string, get func(host, path string) message) {
		for _, sni := range []string{bound, elsewhere} {
			a.address, a.sni = sni+":443", sni
			for _, s := range spellings(bound) {
				for later := range 2 {
					a.want = refused
					if means(s.host, sni) {
						a.want = unbound
						if sni == bound {
							a.want = delivered
						}
					}
					path := g.path()
					a.messages = nil
					for range later {
						a.messages = append(a.messages, get(sni, "/before"))
					}
					a.messages = append(a.messages, get(s.host, path))
					a.audited = audited{}
					if a.want != refused {
						a.audited = events(a.want, path)
					}
					g.add(a, "fronting", map[bool]string{true: "from-bound", false: "from-elsewhere"}[sni == bound], s.name, []string{"first", "later"}[later])
				}
			}
		}
	})
}

// names are TLS names that are not quite the bound one, with a request for that; and
// for what a proxy was asked to CONNECT to.
func (g *generator) names() {
	g.each(func(a attempt, bound string, get func(host, path string) message) {
		for _, s := range spellings(bound) {
			if means(strings.TrimRight(s.host, "."), bound) || s.host == "" { // clients send no dot at the end
				continue
			}
			a.sni, a.want = s.host, refused
			a.messages = []message{get(bound, g.path())}
			g.add(a, "tls-name", s.name)
			if a.door.name == "connect" && !strings.ContainsAny(s.host, " \t\x00\v\x7f") {
				a.sni, a.address = bound, strings.TrimSuffix(s.host, ":443")+":443"
				if net.ParseIP(strings.Trim(s.host, "[]")) != nil {
					a.want = harmless // by an address, the TLS name alone says who is meant
				}
				a.messages = []message{get(bound, g.path())}
				g.add(a, "connect-name", s.name)
				a.address = bound + ":443"
			}
		}
	})
}

// ports are other ports than that which the credential is for, and other protocols there.
func (g *generator) ports() {
	g.each(func(a attempt, bound string, get func(host, path string) message) {
		for _, port := range []int{80, 8443, 22, 25, 444, 8080} {
			a.address = fmt.Sprintf("%s:%d", bound, port)
			a.want = refused
			if port == 80 {
				a.want = harmless // it is for the server there, which gets no credential
			}
			a.messages = []message{get(bound, g.path())}
			g.add(a, "ports", fmt.Sprint("tls-at-", port))
			a.messages = []message{get(fmt.Sprintf("%s:%d", bound, port), g.path())}
			g.add(a, "ports", fmt.Sprint("tls-and-host-at-", port))
		}
		if a.http2 {
			return
		}
		a.plain = true
		for _, port := range []int{80, 443, 8443} {
			a.address = fmt.Sprintf("%s:%d", bound, port)
			for _, host := range []string{bound, bound + ":443", bound + ":80", elsewhere} {
				a.want = harmless
				a.messages = []message{get1(host, g.path())}
				g.add(a, "ports", fmt.Sprint("plain-at-", port), host)
			}
		}
	})
}

// proofs are what is wrong with the bound host's certificate, or what it speaks.
func (g *generator) proofs() {
	g.each(func(a attempt, bound string, get func(host, path string) message) {
		for _, fault := range faults {
			if a.http2 && (fault == "tls-1.0" || fault == "tls-1.1") {
				continue
			}
			path := g.path()
			a.fault, a.want, a.audited = fault, refused, audited{Path: path, Reason: "upstream_certificate"}
			if slices.Contains(silent, fault) {
				a.audited.Reason = "upstream_failed"
			}
			a.messages = []message{get(bound, path)}
			g.add(a, "proof", fault)
		}
	})
}

// redirects are of the bound host, to where its credential is not for.
func (g *generator) redirects() {
	g.each(func(a attempt, bound string, get func(host, path string) message) {
		for _, status := range []int{301, 302, 303, 307, 308} {
			for name, to := range map[string]string{
				"another-host": "https://" + elsewhere + "/next", "scheme-relative": "//" + elsewhere + "/next",
				"plain-http": "http://" + bound + "/next", "plain-http-elsewhere": "http://" + elsewhere + "/next",
				"another-port": "https://" + bound + ":8443/next", "under-it": "https://www." + bound + "/next",
				"user": "https://" + bound + "@" + elsewhere + "/next", "in-capitals": "https://" + strings.ToUpper(elsewhere) + "/next",
			} {
				a.want = harmless
				if strings.HasPrefix(to, "https://"+elsewhere) || strings.HasPrefix(to, "//") || strings.Contains(to, "@") {
					a.want = unbound
				}
				a.follow = fmt.Sprintf("https://%s/redirect?status=%d&to=%s", bound, status, url.QueryEscape(to))
				g.add(a, "redirect", fmt.Sprint(status), name)
			}
		}
	})
}

// destinations are forged: a connection to an address that is somebody else's.
func (g *generator) destinations() {
	g.each(func(a attempt, bound string, get func(host, path string) message) {
		if a.door.name != "intercepted" {
			return
		}
		for name, ip := range map[string]string{
			"documentation": "198.51.100.9", "metadata": "169.254.169.254", "private": "10.0.0.1", "elsewhere": "8.8.8.8",
			"documentation6": "2001:db8::9", "mapped": "::ffff:203.0.113.5", "unique6": "fd00::1", "shared": "100.64.0.1",
		} {
			for _, sni := range []string{bound, elsewhere} {
				path := g.path()
				a.address, a.sni, a.want = atAddress(ip, 443), sni, delivered
				if sni == elsewhere {
					a.want = unbound
				}
				a.messages, a.audited = []message{get(sni, path)}, events(a.want, path)
				g.add(a, "destination", name, sni)
			}
			a.sni, a.want, a.audited = "", refused, audited{}
			a.messages = []message{get(bound, g.path())}
			g.add(a, "destination", name, "no-name")
		}
	})
}

// sessionOf hands out the session of whatever host there was before.
type sessionOf struct{ state *tls.ClientSessionState }

func (s *sessionOf) Get(string) (*tls.ClientSessionState, bool)    { return s.state, s.state != nil }
func (s *sessionOf) Put(_ string, session *tls.ClientSessionState) { s.state = session }

// resumption is a TLS session of one host that is gone on with as another.
func (g *generator) resumption() {
	g.each(func(a attempt, bound string, get func(host, path string) message) {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			a.version = version
			for _, order := range [][]string{{elsewhere, bound}, {bound, elsewhere}} {
				shared := new(sessionOf)
				for i, sni := range order {
					path := g.path()
					a.sessions, a.address, a.sni, a.want = shared, sni+":443", sni, delivered
					if sni == elsewhere {
						a.want = unbound
					}
					a.messages, a.audited = []message{get(sni, path)}, events(a.want, path)
					g.add(a, "resumption", tls.VersionName(version)[4:], "to-"+order[1], fmt.Sprint(i+1, "-connection"))
				}
				a.sni = order[1]
				a.want, a.audited = refused, audited{}
				a.messages = []message{get(order[0], g.path())}
				g.add(a, "resumption", tls.VersionName(version)[4:], "to-"+order[1], "3-as-before")
			}
		}
	})
}
