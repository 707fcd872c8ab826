package vectors

import "strings"

const hostLine = "Host: " + Host + "\r\n"

func requestLines(s *set) {
	path := "/" + Own + number
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PROPFIND", "M-SEARCH", "REPORT", "PURGE", "FOO", "!#$%&'*+-.^_`|~0Z"} {
		if strings.HasPrefix(method, "!") || method == "PURGE" || method == "FOO" {
			s.either(method + " " + path + " HTTP/1.1\r\n" + hostLine + "\r\n")
			continue
		}
		s.accept(method + " " + path + " HTTP/1.1\r\n" + hostLine + "\r\n")
	}
	s.either(strings.Repeat("A", 4000) + " " + path + " HTTP/1.1\r\n" + hostLine + "\r\n")
	for _, method := range []string{"TRACE", "TRACK", "CONNECT", "PRI"} {
		s.either(method + " " + path + " HTTP/1.1\r\n" + hostLine + "\r\n" + hidden)
	}
	for _, method := range []string{"", "get", "Get", "gET", "post", "trace", "connect", "pATCH", "G@T", "G(T", "GET:", "GET/", "GET\x00", "\x00GET", "G\x7fT", "GÉT", "\"GET\"", "GET,POST", "[GET]", "\xef\xbb\xbfGET"} {
		s.refuse(method + " " + path + " HTTP/1.1\r\n" + hostLine + "\r\n" + hidden)
	}
	for _, space := range []string{"", "  ", "\t", " \t", "\x0b", "\x0c", "\r", "\n", "\x00", "\x1c", "\xa0", "\xc2\x85", "\u2003", "+", "%20"} {
		s.refuse("GET" + space + path + " HTTP/1.1\r\n" + hostLine + "\r\n" + hidden)
		s.refuse("GET " + path + space + "HTTP/1.1\r\n" + hostLine + "\r\n" + hidden)
	}
	for _, before := range []string{" ", "\t", "\r\n", "\n", "\r", "\r\n\r\n", "\n\n", "\x00", "\x0b", "X\r\n", "\xef\xbb\xbf", "0\r\n\r\n", "\x16\x03\x01\x00\x05", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"} {
		s.refuse(before + get() + hidden)
	}
	for _, line := range []string{"GET", "GET " + path, "GET " + path + " ", path + " HTTP/1.1", "GET HTTP/1.1", "GET " + path + " HTTP/1.1 X", "GET " + path + " X HTTP/1.1", "HTTP/1.1 200 OK", ""} {
		s.refuse(line + "\r\n" + hostLine + "\r\n" + hidden)
	}
}

func versions(s *set) {
	line := func(version string) string {
		return "GET /" + Own + number + " " + version + "\r\n" + hostLine + "\r\n"
	}
	s.accept(line("HTTP/1.0"))
	s.accept(line("HTTP/1.1"))
	for _, version := range []string{
		"HTTP/0.9", "HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "HTTP/2", "HTTP/3", "HTTP/9.9", "HTTP/1", "HTTP/1.", "HTTP/.1", "HTTP/11", "HTTP/1,1", "HTTP/1.10", "HTTP/1.01",
		"HTTP/01.1", "HTTP/1.1.1", "HTTP/1.1a", "HTTP/+1.1", "HTTP/1.-1", "HTTP/ 1.1", "HTTP /1.1", "HTTP//1.1", "HTTP/1.1\x00", "HTTP/1.1\t", "HTTP/1.1 ", "HTTP/1.1\x0b", "HTTP/1.1;a",
		"http/1.1", "Http/1.1", "HTP/1.1", "HTTPS/1.1", "XHTTP/1.1", "ICAP/1.0", "HTTP1.1", "1.1", "HTTP/１.1", "HTTP/0x1.1", "HTTP/1e0.1", "HTTP/4294967297.1",
	} {
		s.refuse(line(version) + hidden)
	}
	for _, fields := range []string{"", "Connection: keep-alive\r\n", "Connection: close\r\n", "Keep-Alive: timeout=5\r\n", "Proxy-Connection: keep-alive\r\n"} {
		s.accept("GET /" + Own + number + " HTTP/1.0\r\n" + hostLine + fields + "\r\n")
		s.accept("POST /" + Own + number + " HTTP/1.0\r\n" + hostLine + fields + "Content-Length: 4\r\n\r\nbody")
		s.either("POST /" + Own + number + " HTTP/1.0\r\n" + hostLine + fields + "Content-Length: 4\r\n\r\nbody" + hidden)
		s.refuse("POST /" + Own + number + " HTTP/1.0\r\n" + hostLine + fields + "Transfer-Encoding: chunked\r\n\r\n" + lastChunk + hidden)
		s.refuse("POST /" + Own + number + " HTTP/1.0\r\n" + hostLine + fields + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + lastChunk + hidden)
	}
	s.refuse("GET /" + Own + number + " HTTP/1.0\r\n\r\n" + hidden)
}

func targets(s *set) {
	line := func(target string) string { return "GET " + target + " HTTP/1.1\r\n" + hostLine + "\r\n" }
	path := "/" + Own + number
	for _, target := range []string{
		path + "?", path + "?a=b&c", path + "/", path + "//x", path + "/a%2Fb", path + "/a%2fb", path + "?a=/../", path + ";a=b/c", path + "?a?b", path + "/%41", path + "?%zz", path + "/~a", path + "/:a@b", path + "/'(a)*!$&,+=",
	} {
		s.accept(line(target))
	}
	for _, target := range []string{
		"/" + path, "//evil.test" + path, path + "/..;/x", path + "/../x", path + "/%2e%2e/x", path + "/.%2e/x", path + "/./x", "/../" + Own + number, path + "/%00", path + "/%0d%0aX-Api-Key:%20stolen", path + "?%0d%0aX:%20y",
		path + "/{a}", path + "/a|b^c`d", path + "/\"<a>\"", path + "?{a}|b", "/." + path, "/%2e" + path, path + "%20HTTP/1.1%0d%0aX:%20y", "/;" + Own + number,
	} {
		s.either(line(target))
	}
	for _, target := range []string{
		"http://" + Host + path, "https://" + Host + path, "http://evil.test" + path, "HTTP://" + Host + path, "http://" + Host + "@evil.test" + path, "ftp://" + Host + path, "http:/" + Host + path, "http:" + path, "http:///" + path, "x:" + path,
		"http://" + Host, "http://" + Host + "?" + Own + number, "http://" + Host + "#" + Own + number, "ws://" + Host + path, "urn:" + Own + number, "file://" + path, "evil.test:443", Host + ":80", Host, "*", "**", "*" + path, "?" + Own + number, "#" + Own + number,
		Own + number, "\\" + Own + number, ".", "", "%2f" + Own + number, ":80" + path, "@evil.test" + path, "data:,x",
	} {
		s.refuse(line(target) + hidden)
	}
	s.accept("OPTIONS * HTTP/1.1\r\n" + hostLine + "\r\n")
	s.refuse("POST * HTTP/1.1\r\n" + hostLine + "Content-Length: 0\r\n\r\n" + hidden)
	for c := range 256 {
		text := line(path + "/a" + string([]byte{byte(c)}) + "b")
		switch {
		case c <= ' ', c >= 0x7f, c == '#', c == '\\', c == '%':
			s.refuse(text + hidden)
		default:
			s.either(text)
		}
	}
	for _, escape := range []string{"%", "%4", "%g0", "%4g", "%%41", "%u0041", "% 41", "%-1"} {
		s.refuse(line(path+escape) + hidden)
	}
}

func hosts(s *set) {
	with := func(lines ...string) string {
		return "GET /" + Own + number + " HTTP/1.1\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	for _, line := range []string{"Host:" + Host, "HOST: " + Host, "hOsT: " + Host, "Host: \t " + Host + " \t", "Host: " + Host + ":80", "Host: ORIGIN.test", "Host: " + Host + "."} {
		s.accept(with(line, "X: y"))
	}
	s.accept(with("X: y", "Host: "+Host))
	for _, line := range []string{
		"Host: evil.test", "Host: " + Host + ":81", "Host: " + Host + ":", "Host: " + Host + "..", "Host: a." + Host, "Host: " + Host + ".evil.test", "Host: ." + Host, "Host: o_rigin.test", "Host: 127.0.0.1", "Host: [::1]", "Host: [::1]:80",
		"Host: " + Host + ":080", "Host: " + Host + ":+80", "Host: " + Host + ":65616", "Host: " + Host + ":80:80", "Host: [" + Host + "]", "Host: 2130706433", "Host: -" + Host, "Host: xn--" + Host,
	} {
		s.either(with(line) + hidden)
	}
	for _, line := range []string{
		"Host:", "Host: ", "Host: " + Host + ",evil.test", "Host: " + Host + ", " + Host, "Host: " + Host + " evil.test", "Host: " + Host + "\tevil.test", "Host: user@" + Host, "Host: " + Host + "@evil.test", "Host: " + Host + "/x", "Host: " + Host + "?x",
		"Host: " + Host + "#x", "Host: " + Host + "\\x", "Host: " + Host + "\x00", "Host: " + Host + "\x00.evil.test", "Host: \xc3\xb6rigin.test", "Host: http://" + Host, "Host: //" + Host, "Host: %6frigin.test", "Host: " + Host + ";x", "Host: \"" + Host + "\"",
		"Host : " + Host, "Host\t: " + Host, " Host: " + Host, "Host " + Host, "Host", ": " + Host, "Host\x00: " + Host, "H\x00st: " + Host, "Host=" + Host, "X: y",
	} {
		s.refuse(with(line) + hidden)
	}
	for _, second := range []string{"Host: " + Host, "Host: evil.test", "host: evil.test", "HOST:", "Host:\t" + Host, "Host : evil.test", " Host: evil.test", "\tHost: evil.test", "Host\x0b: evil.test"} {
		s.refuse(with("Host: "+Host, second) + hidden)
		s.refuse(with(second, "Host: "+Host) + hidden)
		s.refuse(with("Host: "+Host, "X: y", second) + hidden)
	}
	for _, name := range []string{"X-Forwarded-Host", "X-Host", "Forwarded", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-Forwarded-Server", "X-Original-Host", "Host-Override", "X-Forwarded-Proto", "Via", "Max-Forwards", ":authority", "H-ost", "Ho_st"} {
		if name[0] == ':' {
			s.refuse(with("Host: "+Host, name+": evil.test") + hidden)
			continue
		}
		s.accept(with("Host: "+Host, name+": evil.test"))
	}
}
