package main

import (
	"strings"

	"golang.org/x/net/idna"
)

// spelling is a name that could be taken for another's.
type spelling struct {
	name string // of the spelling
	host string
}

// spellings of a name that mean it to some and not to others, and names that only look
// like it. Which are which is for means to say.
func spellings(host string) []spelling {
	label, parent, _ := strings.Cut(host, ".")
	long := strings.Repeat("a", 64)
	list := []spelling{
		{"itself", host},
		{"capitals", strings.ToUpper(host)},
		{"mixed-case", strings.ToUpper(label) + "." + parent},
		{"trailing-dot", host + "."},
		{"two-trailing-dots", host + ".."},
		{"port-443", host + ":443"},
		{"capitals-dot-port", strings.ToUpper(host) + ".:443"},
		{"port-80", host + ":80"},
		{"port-8443", host + ":8443"},
		{"port-0443", host + ":0443"},
		{"port-empty", host + ":"},
		{"port-plus", host + ":+443"},
		{"port-huge", host + ":65979"},
		{"port-name", host + ":https"},
		{"two-ports", host + ":443:443"},
		{"leading-dot", "." + host},
		{"two-dots", label + ".." + parent},
		{"user", "user@" + host},
		{"user-password", "user:password@" + host},
		{"as-user", host + "@" + elsewhere},
		{"as-user-with-port", host + ":443@" + elsewhere},
		{"comma", host + "," + elsewhere},
		{"comma-reversed", elsewhere + "," + host},
		{"space", host + " " + elsewhere},
		{"tab", host + "\t" + elsewhere},
		{"semicolon", host + ";" + elsewhere},
		{"slash", host + "/" + elsewhere},
		{"slash-reversed", elsewhere + "/" + host},
		{"backslash", elsewhere + "\\" + host},
		{"fragment", elsewhere + "#" + host},
		{"query", elsewhere + "?" + host},
		{"zero", host + "\x00." + elsewhere},
		{"zero-reversed", elsewhere + "\x00." + host},
		{"zero-at-the-end", host + "\x00"},
		{"percent-zero", host + "%00." + elsewhere},
		{"percent-dot", label + "%2e" + parent},
		{"percent-letter", "%61" + host[1:]},
		{"delete", host + "\x7f"},
		{"vertical-tab", host + "\v"},
		{"fullwidth", "\uff41" + host[1:]},
		{"ideographic-dot", label + "\u3002" + parent},
		{"fullwidth-dot", label + "\uff0e" + parent},
		{"soft-hyphen", label[:1] + "\u00ad" + host[1:]},
		{"zero-width", label[:1] + "\u200b" + host[1:]},
		{"cyrillic", "\u0430" + host[1:]},
		{"long-s", strings.ReplaceAll(host, "s", "\u017f")},
		{"kelvin", strings.ReplaceAll(host, "test", "te\u017ft")},
		{"invalid-utf8", "\xff" + host},
		{"overlong-utf8", "\xc0\xae" + host},
		{"overlong-label", long + "." + host},
		{"overlong-name", strings.Repeat("a.", 120) + host},
		{"underscore", strings.ReplaceAll(host, ".", "_")},
		{"under-it", "www." + host},
		{"underscore-under-it", "_dmarc." + host},
		{"sibling", "other." + parent},
		{"parent", parent},
		{"suffix", "x" + host},
		{"hyphen-before", "evil-" + host},
		{"as-prefix", host + "." + elsewhere},
		{"as-label", strings.ReplaceAll(host, ".", "-") + "." + elsewhere},
		{"cut-off", host[:len(host)-1]},
		{"one-more", host + "s"},
		{"star", "*." + parent},
		{"only-star", "*"},
		{"brackets", "[" + host + "]"},
		{"brackets-address", "[::1]"},
		{"address", "127.0.0.1"},
		{"address-decimal", "2130706433"},
		{"address-hex", "0x7f000001"},
		{"address-short", "127.1"},
		{"metadata", "169.254.169.254"},
		{"metadata-name", "metadata.google.internal"},
		{"localhost", "localhost"},
		{"empty", ""},
		{"dot", "."},
		{"another", elsewhere},
		{"another-in-capitals", strings.ToUpper(elsewhere)},
		{"another-with-dot", elsewhere + "."},
		{"another-with-port", elsewhere + ":443"},
		{"url", "https://" + host},
	}
	if ascii, err := idna.ToASCII("\u0430" + host[1:]); err == nil {
		list = append(list, spelling{"punycode", ascii})
	}
	return append(list, spelling{"false-punycode", "xn--" + host})
}

// means reports whether a client, a proxy and a server agree that a name in a request
// is the host of a TLS connection: in capitals, with the dot of the root, with the port
// that it is the usual one of. Nothing else is.
func means(name, host string) bool { return plainName(name) == host && !strings.Contains(name, "..") }

// strangers are names with an origin elsewhere, among them those that look like a bound
// host's and are sound names.
func strangers() []string {
	list := []string{elsewhere, "www." + elsewhere, "h2." + elsewhere}
	for _, host := range []string{boundHost, boundHTTP2} {
		for _, s := range spellings(host) {
			switch s.name {
			case "under-it", "sibling", "parent", "suffix", "hyphen-before", "as-prefix", "as-label", "cut-off", "one-more", "punycode":
				list = append(list, s.host)
			}
		}
	}
	return list
}
