package vectors

import (
	"fmt"
	"strings"
)

// end is a way to end a line that some reader takes for one.
var ends = []string{"\n", "\r", "\r\r\n", "\n\r", "\x0b\r\n", "\x00\r\n", "\x0c\r\n", "\x85", "\u2028", "\n\n", "\r\n\n", "\n\r\n", "\r\r", "\\r\\n", "%0d%0a", ""}

// lineEnds ends each line of a chunked request with trailers in every way but CR LF.
func lineEnds(s *set) {
	lines := []string{
		"POST /" + Own + number + " HTTP/1.1", "Host: " + Host, "Transfer-Encoding: chunked", "X: y", "", "4", "body", "0", "X-Sum: 1", "",
	}
	s.accept(strings.Join(lines, "\r\n") + "\r\n")
	for i := range lines {
		for _, end := range ends {
			text := strings.Join(lines[:i+1], "\r\n") + end + strings.Join(lines[i+1:], "\r\n") + "\r\n"
			if i == len(lines)-1 {
				text = strings.Join(lines, "\r\n") + end
			}
			s.either(text + hidden)
		}
	}
	plain := []string{"GET /" + Own + number + " HTTP/1.1", "Host: " + Host, "X: y", ""}
	for _, end := range []string{"\n", "\r", "\n\r", "\r\r\n"} {
		s.refuse(strings.Join(plain, end) + end + hidden)
	}
}

func folding(s *set) {
	for _, fold := range []string{"\r\n ", "\r\n\t", "\r\n  \t", "\n ", "\r ", "\r\n \r\n ", "\r\n\x0b", "\r\n\x00", "\r\n\xa0"} {
		s.refuse(get("X: y"+fold+"z") + hidden)
		s.refuse(get("X:"+fold+"y") + hidden)
		s.refuse(get("X"+fold+": y") + hidden)
		s.refuse(request("POST", "body"+hidden, "Content-Length:"+fold+"4"))
		s.refuse(request("POST", "body"+hidden, "X: y"+fold+"Content-Length: 4"))
		s.refuse(request("POST", lastChunk+hidden, "Transfer-Encoding:"+fold+"chunked"))
		s.refuse(request("POST", lastChunk+hidden, "X: y"+fold+"Transfer-Encoding: chunked"))
		s.refuse(request("POST", lastChunk+hidden, "Transfer-Encoding: chunked"+fold+", identity"))
		s.refuse("GET /" + Own + number + " HTTP/1.1\r\nHost:" + fold + Host + "\r\n\r\n" + hidden)
		s.refuse("GET /" + Own + number + " HTTP/1.1" + fold + "\r\nHost: " + Host + "\r\n\r\n" + hidden)
		s.refuse("GET /" + Own + number + " HTTP/1.1\r\nX: y" + fold + "Host: evil.test\r\nHost: " + Host + "\r\n\r\n" + hidden)
	}
}

func fieldNames(s *set) {
	for c := range 256 {
		text := get("X" + string([]byte{byte(c)}) + "Y: z")
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-':
			s.accept(text)
		case strings.IndexByte("!#$%&'*+.^_`|~", byte(c)) >= 0, c == ':':
			s.either(text)
		default:
			s.refuse(text + hidden)
		}
	}
	for _, line := range []string{"", ":", ": y", "X", "X y", "=y", "X: y: z", "X:y", "X::y", "X:", "X:  ", "X: ,", "X: ;", "-: y", "1: y"} {
		s.either(get(line) + hidden)
	}
}

func fieldValues(s *set) {
	for c := range 256 {
		text := get("X: a" + string([]byte{byte(c)}) + "b")
		if c < ' ' && c != '\t' || c == 0x7f {
			s.refuse(text + hidden)
		} else {
			s.accept(text)
		}
	}
}

func connection(s *set) {
	for _, value := range []string{
		"keep-alive", "Keep-Alive, X", "x", "X-Api-Key", "x-api-key, authorization", "Authorization", "Host", "host, x-api-key", "Content-Length", "Transfer-Encoding", "Cookie", "X-Exchange", "TE", "Trailer", "Upgrade", "Expect", "Connection", "Keep-Alive", "Proxy-Connection", "", ",", ",,", "x,,y", "\"x\"", "x;y", "keep-alive keep-alive", "user-agent", "accept", "date",
	} {
		s.accept(get("X: y", "Connection: "+value))
		s.accept(request("POST", "body", "Connection: "+value, "Content-Length: 4"))
		s.accept(request("POST", chunk("body")+lastChunk, "Connection: "+value, "Transfer-Encoding: chunked"))
	}
	for _, value := range []string{"close", "Close", "close, keep-alive", "keep-alive, close", "x, close"} {
		s.either(get("Connection: "+value) + hidden)
		s.either(request("POST", "body"+hidden, "Connection: "+value, "Content-Length: 4"))
	}
	for _, field := range []string{
		"Proxy-Connection: keep-alive", "Proxy-Connection: close", "Keep-Alive: timeout=5, max=1", "Keep-Alive: 300", "TE: trailers", "TE: chunked", "Trailer: X-Sum", "Proxy-Authorization: Basic eDp5", "Proxy-Authenticate: Basic", "Proxy-Foo: bar", "Max-Forwards: 0", "Via: 1.0 evil.test", "HTTP2-Settings: AAMAAABkAAQAAP__", "Content-Connection: close",
	} {
		s.accept(get(field))
		s.accept(get(field, "Connection: "+field[:strings.IndexByte(field, ':')]))
	}
}

func expect(s *set) {
	for _, value := range []string{"100-continue", "100-Continue"} {
		s.accept(request("POST", "body", "Expect: "+value, "Content-Length: 4"))
		s.accept(request("POST", chunk("body")+lastChunk, "Expect: "+value, "Transfer-Encoding: chunked"))
		s.accept(get("Expect: " + value))
		s.accept(request("POST", "", "Expect: "+value, "Content-Length: 0"))
	}
	for _, value := range []string{"", "100", "200-ok", "100-continue, 100-continue", "100-continue; a", "\"100-continue\"", "x 100-continue", "100-continue\x0b", "100 continue", "101-continue"} {
		s.refuse(request("POST", "body"+hidden, "Expect: "+value, "Content-Length: 4"))
	}
	s.either("POST /" + Own + number + " HTTP/1.0\r\n" + hostLine + "Expect: 100-continue\r\nContent-Length: 4\r\n\r\nbody")
	s.either(request("POST", "body", "Expect: 100-continue", "Expect: 100-continue", "Content-Length: 4"))
	s.refuse(request("POST", "body"+hidden, "Expect : 100-continue", "Content-Length: 4"))
	s.refuse(request("POST", "body"+hidden, "Expect:\r\n 100-continue", "Content-Length: 4"))
}

func upgrade(s *set) {
	for _, value := range []string{"h2c", "H2C", "h2c, websocket", "websocket", "WebSocket", "TLS/1.0", "HTTP/2.0", "HTTP/1.1", "foo", ""} {
		for _, connection := range []string{"Upgrade", "upgrade, HTTP2-Settings", "keep-alive", ""} {
			fields := []string{"Upgrade: " + value, "HTTP2-Settings: AAMAAABkAAQAAP__", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
			if connection != "" {
				fields = append(fields, "Connection: "+connection)
			}
			s.either(get(fields...))
			s.either(get(fields...) + hidden)
			s.either(get(fields...) + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
			s.either(request("POST", "body"+hidden, append(fields, "Content-Length: 4")...))
		}
	}
}

// ownCredential has a key of the client's beside the one that is injected.
func ownCredential(s *set) {
	for _, name := range []string{"X-Api-Key", "x-api-key", "X-API-KEY", "X_Api_Key", "X-Api_Key", "x_api_key", "Authorization", "authorization", "Proxy-Authorization", "Cookie", "X.Api.Key", "X-Api-Key-", "X--Api-Key"} {
		s.accept(get(name + ": stolen"))
		s.accept(get(name+": stolen", name+": stolen again"))
		s.accept(get(name+": stolen", "Connection: "+name))
		s.accept(get("Connection: X-Api-Key", name+": stolen", "X-Api-Key: vault:key"))
	}
	for _, name := range []string{"X-Api-Key ", " X-Api-Key", "X-Api-Key\t", "X-Api-Key\x00", "X\x00Api-Key", "X-Api-Key\x0b", "X Api Key"} {
		s.refuse(get(name+": stolen") + hidden)
	}
	for _, value := range []string{"", "a,b", "a\r\n b", "a\nX-Api-Key: b", "a\rX-Api-Key: b", "a\x00"} {
		s.either(get("X-Api-Key: " + value))
	}
}

func pipelining(s *set) {
	for n := 1; n <= 8; n++ {
		s.add(Accept, n, strings.Repeat(get(), n))
		s.add(Accept, n, strings.Repeat(sized("body"), n))
		s.add(Accept, n, strings.Repeat(chunked(chunk("body")+lastChunk), n))
		s.add(Accept, n, strings.Repeat(sized(hidden), n))
		s.add(Accept, n, strings.Repeat(chunked(chunk(hidden)+lastChunk), n))
		s.add(Accept, n+2, sized("")+strings.Repeat(request("HEAD", ""), n)+get())
		s.either(strings.Repeat(get(), n) + "GET /" + Hidden + number + " HTTP/1.9\r\n" + hostLine + "\r\n")
		s.either(strings.Repeat(sized("body"), n) + "\r\n" + hidden)
		s.either(strings.Repeat(chunked(lastChunk), n) + chunked("4;a\r\nbody\r\n"+lastChunk) + hidden)
	}
	for cut := range 30 {
		s.either(get() + hidden[:cut])
		s.either(sized(hidden)[:len(sized(hidden))-1-cut])
	}
}

// methodBodies gives methods a body, or none, that they usually don't have.
func methodBodies(s *set) {
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT"} {
		s.accept(request(method, "body", "Content-Length: 4"))
		s.accept(request(method, "", "Content-Length: 0"))
		s.accept(request(method, chunk("body")+lastChunk, "Transfer-Encoding: chunked"))
		s.accept(request(method, lastChunk, "Transfer-Encoding: chunked"))
		s.accept(request(method, hidden, fmt.Sprintf("Content-Length: %d", len(hidden))))
		s.accept(request(method, chunk(hidden)+lastChunk, "Transfer-Encoding: chunked"))
		s.accept(request(method, "body", "Content-Length: 4", "X-HTTP-Method-Override: DELETE"))
		s.accept(request(method, "body", "Content-Length: 4", "Content-Type: application/x-www-form-urlencoded", "Content-Encoding: gzip"))
	}
}

func sizes(s *set) {
	for _, n := range []int{10, 60, 120} {
		s.either(get(strings.Split(strings.Repeat("X: y\n", n)[:n*5-1], "\n")...))
	}
	for _, n := range []int{200, 1000} {
		s.refuse(get(strings.Split(strings.Repeat("X: y\n", n)[:n*5-1], "\n")...) + hidden)
	}
	for _, n := range []int{1000, 4000, 8000, 16_000, 40_000} {
		s.either(get("X: " + strings.Repeat("y", n)))
		s.either(get(strings.Repeat("X", n) + ": y"))
		s.either("GET /" + Own + number + "?" + strings.Repeat("x", n) + " HTTP/1.1\r\n" + hostLine + "\r\n")
	}
	s.refuse(get("X: "+strings.Repeat("y", 70_000)) + hidden)
	s.refuse(get(strings.Repeat("X", 70_000)+": y") + hidden)
	s.refuse("GET /" + Own + number + strings.Repeat("x", 70_000) + " HTTP/1.1\r\n" + hostLine + "\r\n" + hidden)
	for _, n := range []int{4096, 16_384, 32_768, 65_536, 300_000} {
		s.accept(sized(strings.Repeat("x", n-1)))
		s.accept(sized(strings.Repeat("x", n)))
		s.accept(chunked(chunk(strings.Repeat("x", n)) + lastChunk))
	}
}
