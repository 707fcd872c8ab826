package main

import "strings"

// paths are ways to write one that the policy denies.
func (g *generator) paths() {
	g.each(func(a attempt, bound string, get func(host, path string) message) {
		a.path, a.want = deniedPath, refused
		for name, path := range map[string]string{
			"itself": "/admin", "below": "/admin/users", "slash": "/admin/", "query": "/admin?a=b", "capitals": "/ADMIN", "mixed-case": "/Admin/users",
			"percent-letter": "/%61dmin", "percent-all": "/%61%64%6d%69%6e", "percent-twice": "/%2561dmin", "percent-capitals": "/%41dmin",
			"two-slashes": "//admin", "three-slashes": "///admin", "dot": "/./admin", "dots": "/x/../admin", "dots-percent": "/x/%2e%2e/admin",
			"dots-half": "/x/.%2e/admin", "dots-capitals": "/x/%2E%2E/admin", "dots-twice": "/x/%252e%252e/admin", "dots-params": "/x/..;/admin",
			"dots-named-params": "/x/..;a=b/admin", "slash-percent": "/x%2f..%2fadmin", "slash-percent-only": "/%2fadmin", "below-percent": "/admin%2fusers",
			"backslash": `/x\..\admin`, "backslash-percent": "/x%5c..%5cadmin", "backslash-first": `/\admin`, "params": "/admin;a=b", "params-first": "/;a=b/admin",
			"zero": "/admin%00", "zero-dot": "/admin%00.html", "tab": "/admin%09", "space": "/admin%20", "line-feed": "/admin%0a", "dot-after": "/admin/.",
			"dots-after": "/admin/x/..", "fullwidth": "/%ef%bd%81dmin", "overlong-slash": "/x%c0%afadmin", "overlong-dot": "/x/%c0%ae%c0%ae/admin",
			"unicode-percent": "/%u0061dmin", "slash-between": "/x//../admin", "many-dots": "/a/b/c/../../../admin", "above-the-root": "/../../admin",
			"fragment": "/admin#x", "space-raw": "/admin /x", "absolute": "https://" + bound + "/admin", "dots-params-percent": "/x/..%3b/admin", "matrix": "/x;/../admin",
		} {
			a.messages = []message{get(bound, path)}
			a.want = refused
			if strings.HasPrefix(name, "fullwidth") || strings.HasPrefix(name, "unicode") || strings.HasPrefix(name, "overlong") {
				a.want = harmless // if no server of any kind reads it so
			}
			g.add(a, "path", name)
		}
		a.path, a.want = "", delivered
		for name, path := range map[string]string{"longer": "/administrator", "before": "/x/admin", "in-a-query": "/?/admin", "hyphen": "/admin-console"} {
			a.messages, a.audited = []message{get(bound, path)}, audited{}
			g.add(a, "path", "allowed-"+name)
		}
	})
}

// parameters are queries with a key of the client's own where the credential goes.
func (g *generator) parameters() {
	for _, d := range g.doors {
		for _, http2 := range []bool{false, true} {
			host, get := queryHost, get1
			if http2 {
				host, get = "h2"+queryHost, get2
			}
			for name, query := range map[string]string{
				"none": "", "another": "?a=b", "own": "?key=mine", "own-twice": "?key=a&key=b", "empty": "?key=", "no-value": "?key", "percent": "?%6bey=mine",
				"plus": "?a=b&key=mine&c=d", "semicolon": "?a=b;key=mine", "brackets": "?key[]=mine", "capitals": "?KEY=mine", "percent-name": "?%6B%65%79=mine",
				"empty-parts": "?&&key=mine&&", "equals": "?key==mine", "two-questions": "?a?key=mine", "bad-percent": "?%zz=1&key=mine", "array": "?key[0]=mine&a=1",
			} {
				a := attempt{door: d, http2: http2, address: host + ":443", sni: host, want: delivered, credential: "query"}
				path := g.path()
				a.messages, a.audited = []message{get(host, path+query)}, events(delivered, path)
				g.add(a, "parameter", name)
			}
		}
	}
}

// wildcards are names that a wildcard of one label is not for.
func (g *generator) wildcards() {
	parent := strings.TrimPrefix(wildcardHost, "*.")
	for _, d := range g.doors {
		a := attempt{door: d, want: delivered, credential: "wild"}
		host := "a." + parent
		path := g.path()
		a.address, a.sni, a.messages, a.audited = host+":443", host, []message{get1(host, path)}, events(delivered, path)
		g.add(a, "wildcard", "control")
		for name, host := range map[string]string{
			"parent": parent, "two-labels": "a.b." + parent, "suffix": "a-" + parent, "empty-label": "." + parent, "star": wildcardHost, "as-prefix": "a." + parent + "." + elsewhere,
			"dot-percent": "a%2e." + parent, "zero": "a\x00." + parent, "underscore": "a_b." + parent, "hyphen-first": "-a." + parent, "sibling": "a.wilder.bound.test",
		} {
			a.address, a.sni, a.want, a.audited = host+":443", host, harmless, audited{}
			a.messages = []message{get1(host, g.path())}
			g.add(a, "wildcard", name)
			a.sni, a.address, a.want = "a."+parent, "a."+parent+":443", refused
			g.add(a, "wildcard", "fronting-"+name)
		}
	}
}

// rebinding are names with a credential whose DNS leads where nothing is to be sent.
func (g *generator) rebinding() {
	g.each(func(a attempt, _ string, get func(host, path string) message) {
		for host := range rebindings {
			path := g.path()
			a.address, a.sni, a.want, a.audited = host+":443", host, refused, events(refused, path)
			a.messages = []message{get(host, path)}
			g.add(a, "rebinding", strings.TrimSuffix(host, ".rebind.test"))
		}
	})
}

// overreaching are hosts under which anybody can have a name, or all of them, and what
// is no host. None may be stored with a credential.
var overreaching = []string{
	"*.github.io", "*.co.uk", "*.com", "*.io", "*.herokuapp.com", "*.vercel.app", "*.netlify.app", "*.pages.dev", "*.workers.dev", "*.web.app",
	"*.s3.amazonaws.com", "*.blogspot.com", "*.azurewebsites.net", "*.cloudfront.net", "*.run.app", "*.fly.dev", "*.ngrok.io", "*.gitlab.io",
	"*.GitHub.IO", "*.github.io.", "*.github.io:443", "github.io", "co.uk", "com", "*.xn--p1ai", "*.kawasaki.jp",
	"*", "*.*", "**.example.com", "*.*.example.com", "a.*.example.com", "api.*.com", "*api.example.com", "ap*.example.com", "example.*",
	"api.example.com/v1", "https://api.example.com", "user@api.example.com", "api.example.com,evil.test", "api example.com", "api_x.example.com",
	"\u0430pi.example.com.\u3002", "api..example.com", ".example.com", "-a.example.com", "169.254.169.254", "[::1]", "localhost:0", "api.example.com:99999", "",
}

// storing says for each of them what is wrong; and that a wildcard of one's own is stored.
func (w *world) storing(o options, report func(result)) {
	for _, host := range overreaching {
		name := "stored/" + host
		if !o.chosen(name) {
			continue
		}
		broken := ""
		if err := w.target.store(host); err == nil {
			broken = "it was stored"
		} else if !strings.Contains(err.Error(), "host") {
			broken = "it was refused for something else: " + err.Error()
		}
		report(result{name, broken})
	}
	if name := "stored/control"; o.chosen(name) {
		broken := ""
		if err := w.target.store("*.mine.example.com"); err != nil {
			broken = err.Error()
		}
		report(result{name, broken})
	}
}
