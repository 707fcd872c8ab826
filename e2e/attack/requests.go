package main

import (
	"fmt"
	"strings"
)

// forms are requests of HTTP/1 that name two hosts, or none.
func (g *generator) forms() {
	for _, d := range g.doors {
		bound := g.hostFor(false)
		for _, sni := range []string{bound, elsewhere} {
			other := elsewhere
			if sni == elsewhere {
				other = bound
			}
			for name, format := range map[string]string{
				"absolute":               "GET https://OTHER PATH HTTP/1.1\r\nHost: SNI\r\n",
				"absolute-own":           "GET https://SNIPATH HTTP/1.1\r\nHost: OTHER\r\n",
				"absolute-both":          "GET https://OTHERPATH HTTP/1.1\r\nHost: OTHER\r\n",
				"absolute-http":          "GET http://OTHERPATH HTTP/1.1\r\nHost: SNI\r\n",
				"absolute-user":          "GET https://SNI@OTHERPATH HTTP/1.1\r\nHost: SNI\r\n",
				"absolute-capitals":      "GET HTTPS://OTHERPATH HTTP/1.1\r\nHost: SNI\r\n",
				"scheme-relative":        "GET //OTHERPATH HTTP/1.1\r\nHost: SNI\r\n?",
				"at":                     "GET @OTHERPATH HTTP/1.1\r\nHost: SNI\r\n",
				"no-slash":               "GET OTHERPATH HTTP/1.1\r\nHost: SNI\r\n",
				"colon":                  "GET :80PATH HTTP/1.1\r\nHost: SNI\r\n",
				"two-hosts":              "GET PATH HTTP/1.1\r\nHost: SNI\r\nHost: OTHER\r\n",
				"two-hosts-reversed":     "GET PATH HTTP/1.1\r\nHost: OTHER\r\nHost: SNI\r\n",
				"two-hosts-apart":        "GET PATH HTTP/1.1\r\nHost: SNI\r\nA: b\r\nhost: OTHER\r\n",
				"the-same-twice":         "GET PATH HTTP/1.1\r\nHost: SNI\r\nHost: SNI\r\n",
				"no-host":                "GET PATH HTTP/1.1\r\n",
				"no-host-1.0":            "GET PATH HTTP/1.0\r\n",
				"empty-host":             "GET PATH HTTP/1.1\r\nHost:\r\n",
				"other-1.0":              "GET PATH HTTP/1.0\r\nHost: OTHER\r\n",
				"folded-host":            "GET PATH HTTP/1.1\r\nHost: SNI\r\n OTHER\r\n",
				"folded-other":           "GET PATH HTTP/1.1\r\nA: b\r\n Host: OTHER\r\nHost: OTHER\r\n",
				"space-before-colon":     "GET PATH HTTP/1.1\r\nHost : OTHER\r\nHost: SNI\r\n",
				"space-before-name":      "GET PATH HTTP/1.1\r\n Host: OTHER\r\nHost: SNI\r\n",
				"bare-line-feed":         "GET PATH HTTP/1.1\nHost: SNI\nHost: OTHER\n",
				"bare-return":            "GET PATH HTTP/1.1\r\nHost: SNI\rHost: OTHER\r\n",
				"zero-in-host":           "GET PATH HTTP/1.1\r\nHost: SNI\x00OTHER\r\n",
				"version-2":              "GET PATH HTTP/2.0\r\nHost: OTHER\r\n",
				"version-0.9":            "GET PATH\r\n",
				"preface":                "PRI * HTTP/2.0\r\n",
				"connect":                "CONNECT OTHER:443 HTTP/1.1\r\nHost: OTHER:443\r\n",
				"connect-own":            "CONNECT SNI:443 HTTP/1.1\r\nHost: SNI:443\r\n",
				"trace":                  "TRACE PATH HTTP/1.1\r\nHost: OTHER\r\n",
				"options-other":          "OPTIONS * HTTP/1.1\r\nHost: OTHER\r\n",
				"forwarded-first":        "GET PATH HTTP/1.1\r\nX-Forwarded-Host: SNI\r\nHost: OTHER\r\n",
				"two-targets":            "GET PATH https://OTHERPATH HTTP/1.1\r\nHost: SNI\r\n",
				"length-and-chunks":      "POST PATH HTTP/1.1\r\nHost: OTHER\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n",
				"upgrade-to-plain-http2": "GET PATH HTTP/1.1\r\nHost: OTHER\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
			} {
				g.form(attempt{door: d, address: sni + ":443", sni: sni, want: refused}, "form", name, format, other)
			}
			for name, fields := range overrides {
				a := attempt{door: d, address: sni + ":443", sni: sni, want: delivered}
				switch {
				case sni == elsewhere:
					a.want = unbound
				case strings.HasSuffix(name, "-url"):
					a.want = harmless // refused where a policy goes by paths
				}
				g.form(a, "override", name, "GET PATH HTTP/1.1\r\nHost: SNI\r\n"+fields+"\r\n", other)
			}
		}
	}
}

// overrides are fields by which some servers are told another host.
var overrides = map[string]string{
	"x-forwarded-host": "X-Forwarded-Host: OTHER", "forwarded": "Forwarded: host=OTHER;proto=http", "x-host": "X-Host: OTHER",
	"x-original-url": "X-Original-URL: https://OTHER/", "x-rewrite-url": "X-Rewrite-URL: https://OTHER/", "x-http-host-override": "X-HTTP-Host-Override: OTHER",
	"x-forwarded-server": "X-Forwarded-Server: OTHER", "x-forwarded-port": "X-Forwarded-Port: 8443", "x-forwarded-proto": "X-Forwarded-Proto: http",
	"x-forwarded-scheme": "X-Forwarded-Scheme: http", "via": "Via: 1.1 OTHER", "origin": "Origin: https://OTHER", "referer": "Referer: https://OTHER/",
	"proxy-host": "Proxy-Host: OTHER", "alt-used": "Alt-Used: OTHER:8443", "destination": "Destination: https://OTHER/",
}

// form adds a request of HTTP/1, the first of its connection and a later one.
func (g *generator) form(a attempt, kind, name, format, other string) {
	from := map[bool]string{true: "from-elsewhere", false: "from-bound"}[a.sni == elsewhere]
	for later, when := range []string{"first", "later"} {
		path := g.path()
		text := strings.NewReplacer("SNI", a.sni, "OTHER", other, "PATH", path, "?", "").Replace(format)
		if strings.HasSuffix(format, "?") { // a path of the connection's own host
			a.want = harmless
		}
		a.messages = nil
		for range later {
			a.messages = append(a.messages, get1(a.sni, "/before"))
		}
		a.messages = append(a.messages, message{text: text + "\r\n"})
		a.audited = audited{}
		if kind == "override" {
			a.audited = events(a.want, path)
		}
		g.add(a, kind, from, name, when)
	}
}

// pseudoFields are requests of HTTP/2 that name two hosts, or none, or break its rules.
func (g *generator) pseudoFields() {
	for _, d := range g.doors {
		bound := g.hostFor(true)
		for _, sni := range []string{bound, elsewhere} {
			other := elsewhere
			if sni == elsewhere {
				other = bound
			}
			for name, lines := range map[string]string{
				"two-authorities":        ":method GET|:scheme https|:authority SNI|:authority OTHER|:path PATH",
				"two-authorities-turned": ":method GET|:scheme https|:authority OTHER|:authority SNI|:path PATH",
				"host-of-another":        ":method GET|:scheme https|:authority SNI|:path PATH|host OTHER",
				"authority-of-another":   ":method GET|:scheme https|:authority OTHER|:path PATH|host SNI",
				"only-host-of-another":   ":method GET|:scheme https|:path PATH|host OTHER",
				"no-host":                ":method GET|:scheme https|:path PATH",
				"empty-authority":        ":method GET|:scheme https|:authority |:path PATH|host OTHER",
				"authority-after-fields": ":method GET|:scheme https|:path PATH|a b|:authority OTHER",
				"host-twice":             ":method GET|:scheme https|:path PATH|host SNI|host OTHER",
				"two-paths":              ":method GET|:scheme https|:authority SNI|:path PATH|:path https://OTHERPATH",
				"path-is-a-url":          ":method GET|:scheme https|:authority SNI|:path https://OTHERPATH",
				"path-is-a-plain-url":    ":method GET|:scheme http|:authority SNI|:path http://OTHERPATH",
				"path-with-at":           ":method GET|:scheme https|:authority SNI|:path @OTHERPATH",
				"path-with-port":         ":method GET|:scheme https|:authority SNI|:path :80PATH",
				"path-with-dot":          ":method GET|:scheme https|:authority SNI|:path .OTHERPATH",
				"path-without-slash":     ":method GET|:scheme https|:authority SNI|:path OTHERPATH",
				"path-x":                 ":method GET|:scheme https|:authority SNI|:path x:http://OTHERPATH",
				"path-empty":             ":method GET|:scheme https|:authority SNI|:path ",
				"path-star":              ":method GET|:scheme https|:authority OTHER|:path *",
				"path-with-break":        ":method GET|:scheme https|:authority SNI|:path PATH HTTP/1.1\r\nHost: OTHER\r\nA: b",
				"path-with-space":        ":method GET|:scheme https|:authority SNI|:path PATH HTTP/1.1",
				"path-with-fragment":     ":method GET|:scheme https|:authority SNI|:path PATH#@OTHER",
				"method-with-break":      ":method GET / HTTP/1.1\r\nHost: OTHER\r\n\r\nGET|:scheme https|:authority SNI|:path PATH",
				"method-with-space":      ":method GET https://OTHER|:scheme https|:authority SNI|:path PATH",
				"authority-with-break":   ":method GET|:scheme https|:authority SNI\r\nHost: OTHER|:path PATH",
				"field-with-break":       ":method GET|:scheme https|:authority SNI|:path PATH|a b\r\nHost: OTHER",
				"field-name-with-break":  ":method GET|:scheme https|:authority SNI|:path PATH|a\r\nhost OTHER",
				"field-name-with-colon":  ":method GET|:scheme https|:authority SNI|:path PATH|host: OTHER",
				"capital-host":           ":method GET|:scheme https|:authority SNI|:path PATH|Host OTHER",
				"unknown-pseudo":         ":method GET|:scheme https|:authority SNI|:path PATH|:host OTHER",
				"capital-authority":      ":method GET|:scheme https|:authority SNI|:path PATH|:Authority OTHER",
				"connect":                ":method CONNECT|:authority OTHER:443",
				"connect-own":            ":method CONNECT|:authority SNI:443",
				"connect-with-path":      ":method CONNECT|:scheme https|:authority OTHER|:path PATH",
				"extended-connect":       ":method CONNECT|:protocol websocket|:scheme https|:authority OTHER|:path PATH",
				"extended-connect-tcp":   ":method CONNECT|:protocol connect-tcp|:scheme https|:authority SNI|:path /OTHER/443/",
				"trace":                  ":method TRACE|:scheme https|:authority OTHER|:path PATH",
				"chunked":                ":method POST|:scheme https|:authority OTHER|:path PATH|transfer-encoding chunked",
				"connection":             ":method GET|:scheme https|:authority OTHER|:path PATH|connection host",
				"no-method":              ":scheme https|:authority OTHER|:path PATH",
				"no-scheme":              ":method GET|:authority OTHER|:path PATH",
			} {
				for later, when := range []string{"first", "later"} {
					a := attempt{door: d, http2: true, address: sni + ":443", sni: sni, want: refused}
					path := g.path()
					for range later {
						a.messages = append(a.messages, get2(sni, "/before"))
					}
					var m message
					for line := range strings.SplitSeq(strings.NewReplacer("SNI", sni, "OTHER", other, "PATH", path).Replace(lines), "|") {
						name, value, _ := strings.Cut(line, " ")
						m.fields = append(m.fields, field{Name: name, Value: value})
					}
					a.messages = append(a.messages, m)
					g.add(a, "pseudo", map[bool]string{true: "from-elsewhere", false: "from-bound"}[sni == elsewhere], name, when)
				}
			}
		}
	}
}

// ownKeys are requests with a key of the client's own where the credential goes, so that
// a server might take that for it, or the two for one.
func (g *generator) ownKeys() {
	g.each(func(a attempt, bound string, get func(host, path string) message) {
		for name, lines := range map[string]string{
			"bearer": "Authorization: Bearer mine", "basic": "Authorization: Basic bWU6bWluZQ==", "twice": "Authorization: a\r\nAuthorization: b",
			"small-letters": "authorization: mine", "capitals": "AUTHORIZATION: mine", "empty": "Authorization:", "comma": "Authorization: Bearer a, Bearer b",
			"hop-by-hop": "Connection: authorization", "hop-by-hop-twice": "Connection: close, Authorization\r\nAuthorization: mine",
			"underscore": "X_Authorization: mine", "proxy": "Proxy-Authorization: Basic bWU6bWluZQ==", "cookie": "Cookie: Authorization=mine",
			"vary": "Vary: Authorization", "long": "Authorization: Bearer " + strings.Repeat("m", 4000),
		} {
			if a.http2 && strings.Contains(lines, "Connection") {
				continue
			}
			path := g.path()
			a.want, a.audited = delivered, events(delivered, path)
			m := get(bound, path)
			if a.http2 {
				for line := range strings.SplitSeq(lines, "\r\n") {
					name, value, _ := strings.Cut(line, ":")
					m.fields = append(m.fields, field{Name: strings.ToLower(name), Value: strings.TrimSpace(value)})
				}
			} else {
				m.text = strings.TrimSuffix(m.text, "\r\n") + lines + "\r\n\r\n"
			}
			a.messages = []message{m}
			g.add(a, "own-key", name)
		}
	})
}

// nested is CONNECT within what was connected to, and around it.
func (g *generator) nested() {
	for _, d := range g.doors {
		bound := g.hostFor(false)
		for name, a := range map[string]attempt{
			"in-tls-of-the-bound":  {address: bound + ":443", sni: bound, messages: []message{connect1(elsewhere + ":443"), get1(bound, g.path())}},
			"in-tls-of-another":    {address: elsewhere + ":443", sni: elsewhere, messages: []message{connect1(bound + ":443"), get1(bound, g.path())}},
			"in-plain-of-another":  {address: elsewhere + ":80", plain: true, messages: []message{connect1(bound + ":443"), get1(bound, g.path())}},
			"in-plain-of-itself":   {address: bound + ":80", plain: true, messages: []message{connect1(bound + ":80"), get1(bound, g.path())}},
			"to-itself":            {address: bound + ":443", sni: bound, messages: []message{connect1("127.0.0.1:15001"), get1(bound, g.path())}},
			"after-a-request":      {address: bound + ":443", sni: bound, messages: []message{get1(bound, "/before"), connect1(elsewhere + ":443"), get1(elsewhere, g.path())}},
			"without-a-host":       {address: bound + ":443", sni: bound, messages: []message{{text: "CONNECT " + elsewhere + ":443 HTTP/1.1\r\n\r\n"}, get1(bound, g.path())}},
			"to-another-host-line": {address: bound + ":443", sni: bound, messages: []message{{text: "CONNECT " + elsewhere + ":443 HTTP/1.1\r\nHost: " + bound + "\r\n\r\n"}, get1(bound, g.path())}},
		} {
			a.door, a.want = d, harmless
			g.add(a, "nested", name)
		}
	}
}

func connect1(to string) message {
	return message{text: fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", to, to)}
}

// absolute is for the proxy itself, in the form that proxies take.
func (g *generator) absolute() {
	bound := g.hostFor(false)
	for _, s := range spellings(bound) {
		for _, scheme := range []string{"http", "https"} {
			for name, hosts := range map[string][2]string{"target": {s.host, bound}, "host": {bound, s.host}, "both": {s.host, s.host}} {
				a := attempt{plain: true, want: harmless}
				a.messages = []message{{text: fmt.Sprintf("GET %s://%s%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", scheme, hosts[0], g.path(), hosts[1])}}
				g.add(a, "absolute", scheme, name, s.name)
			}
		}
	}
}
