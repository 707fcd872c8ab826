package vectors

import (
	"fmt"
	"strings"
)

func contentLengths(s *set) {
	for _, n := range []int{0, 1, 4, 100} {
		s.accept(sized(strings.Repeat("x", n)))
	}
	s.accept(sized(hidden))
	s.accept(request("POST", "body", "content-length:4"))
	s.accept(request("POST", "body", "CONTENT-LENGTH: \t4 \t"))
	s.accept(request("POST", "body", "Content-Length: 0004"))
	for _, value := range []string{
		"", "-1", "-0", "+0", "+4", "0x4", "4;", "4,", ",4", "4,4", "4, 4", "4,5", "0,4", "4 4", "4\x00", "\x004", "4\x0b", "\x0b4", "4\x0c", "4\r", "\xa04", "4.", "4.0", "4e0", "4_0", "'4'", "\"4\"", "(4)", "４", "four", "4abc", "4#", "0b100", "NaN",
		"9223372036854775808", "18446744073709551620", "99999999999999999999999999", "1000000000000000000", "4/4", "bytes=4", "*", "4 (comment)", "4\xc2\xa0", "\xef\xbb\xbf4",
	} {
		s.refuse(request("POST", "body"+hidden, "Content-Length: "+value))
		s.refuse(request("GET", "body"+hidden, "Content-Length: "+value))
	}
	for _, lines := range [][2]string{{"4", "4"}, {"4", "0"}, {"0", "4"}, {"4", ""}, {"4", "x"}, {"4", "04"}} {
		s.refuse(request("POST", "body"+hidden, "Content-Length: "+lines[0], "Content-Length: "+lines[1]))
		s.refuse(request("POST", "body"+hidden, "Content-Length: "+lines[0], "X: y", "content-length: "+lines[1]))
	}
	for _, name := range oddNames("Content-Length") {
		s.refuse(request("POST", "body"+hidden, name+": 4"))
		s.refuse(request("POST", "body"+hidden, "Content-Length: 4", name+": 0"))
	}
	for _, name := range []string{"Content-Lengt", "Content-Lengthh", "X-Content-Length", "ContentLength", "Content--Length", "Length"} {
		s.accept(request("GET", "", name+": 4"))
	}
}

// oddNames are spellings of a name that some reader takes for it.
func oddNames(name string) []string {
	dash := strings.IndexByte(name, '-')
	first, second := name[:dash], name[dash+1:]
	return []string{
		name + " ", name + "\t", " " + name, "\t" + name, name + "\x00", "\x00" + name, name + "\x0b", name + "\x0c", name + "\r", name + "\xa0", "\xef\xbb\xbf" + name,
		first + "_" + second, first + "." + second, first + " " + second, first + "\x00-" + second, first + "-\x00" + second, first + "\u2010" + second, first + "~" + second, first + "-\r\n " + second, "\"" + name + "\"", name + ":",
		strings.Replace(name, "n", "\xc5\x84", 1), strings.Replace(name, "e", "\x05", 1), name + "(a)", name + ",", name + ";", name + "=4, X",
	}
}

func transferEncodings(s *set) {
	s.accept(chunked(lastChunk))
	s.accept(request("POST", chunk("body")+lastChunk, "Transfer-Encoding:chunked"))
	s.accept(request("POST", chunk("body")+lastChunk, "transfer-encoding: \t Chunked \t"))
	s.accept(request("POST", chunk("body")+lastChunk, "TRANSFER-ENCODING: CHUNKED"))
	for _, value := range []string{
		"", "identity", "gzip", "deflate", "br", "compress", "x-chunked", "gzip, chunked", "chunked, gzip", "identity, chunked", "chunked, identity", "chunked, chunked", "chunked,", ",chunked", ", chunked ,", "chunked;q=1", "chunked; a=b", "chunked ;", "chunked chunked",
		"\"chunked\"", "'chunked'", "\x0bchunked", "\x0cchunked", "\x00chunked", "chunked\x00", "chunked\x0b", "chunked\x0c", "chunked\x1f", "\xa0chunked", "chunked\xa0", "\xef\xbb\xbfchunked", "chunkedx", "xchunked", "chunke", "chunked\r", "(x) chunked", "chun\u212aed", "chunKed\x7f", "cow", "cow, chunked", "chunked, cow", "none", "*", "0",
		"trailers", "chunked\\", "ch\\unked", "chunked/1", "=chunked", "chunked:", "tchunked\x08",
	} {
		s.refuse(request("POST", lastChunk+hidden, "Transfer-Encoding: "+value))
		s.refuse(request("GET", lastChunk+hidden, "Transfer-Encoding: "+value))
	}
	for _, lines := range [][2]string{{"chunked", "chunked"}, {"chunked", "identity"}, {"identity", "chunked"}, {"chunked", ""}, {"", "chunked"}, {"gzip", "chunked"}, {"chunked", "cow"}, {"cow", "chunked"}} {
		s.refuse(request("POST", lastChunk+hidden, "Transfer-Encoding: "+lines[0], "Transfer-Encoding: "+lines[1]))
		s.refuse(request("POST", lastChunk+hidden, "Transfer-Encoding: "+lines[0], "X: y", "transfer-encoding: "+lines[1]))
	}
	for _, name := range oddNames("Transfer-Encoding") {
		s.refuse(request("POST", lastChunk+hidden, name+": chunked"))
		s.refuse(request("POST", lastChunk+hidden, "Transfer-Encoding: chunked", name+": identity"))
	}
	for _, line := range []string{"Transfer-Encoding chunked", "Transfer-Encoding=chunked", "Transfer-Encoding\r\n : chunked", "Transfer-Encoding:\r\n chunked", "Transfer-Encoding:\r\n\tchunked", "Transfer-Encoding: chun\r\n ked", "X: y\nTransfer-Encoding: chunked", "X: y\rTransfer-Encoding: chunked", "Transfer-Encoding: chunked\nX: y"} {
		s.refuse(request("POST", lastChunk+hidden, line))
	}
	for _, field := range []string{"TE: chunked", "TE: trailers", "TE: gzip, trailers;q=0.5", "Content-Encoding: chunked", "X-Transfer-Encoding: chunked", "TransferEncoding: chunked", "Transfer-Encodin: chunked", "Transfer-Encodings: chunked"} {
		s.accept(get(field))
	}
}

// bothFramings has Content-Length beside Transfer-Encoding in every spelling
// that one reader heeds and another ignores.
func bothFramings(s *set) {
	body := lastChunk + hidden
	for _, length := range []string{"0", "4", "5", fmt.Sprint(len(body)), fmt.Sprint(len(body) + 1), "x", ""} {
		for _, coding := range []string{
			"Transfer-Encoding: chunked", "transfer-encoding:chunked", "Transfer-Encoding : chunked", "Transfer-Encoding\t: chunked", " Transfer-Encoding: chunked", "Transfer-Encoding: xchunked", "Transfer-Encoding: \x0bchunked",
			"Transfer-Encoding: chunked, identity", "Transfer-Encoding: identity", "Transfer-Encoding:\r\n chunked", "Transfer_Encoding: chunked", "X: y\nTransfer-Encoding: chunked", "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
		} {
			s.refuse(request("POST", body, "Content-Length: "+length, coding))
			s.refuse(request("POST", body, coding, "Content-Length: "+length))
		}
	}
	for _, name := range oddNames("Content-Length") {
		s.refuse(request("POST", body, "Transfer-Encoding: chunked", name+": 5"))
	}
}

func chunks(s *set) {
	for _, body := range []string{
		chunk("a") + lastChunk, chunk("a") + chunk("bc") + lastChunk, "A\r\n0123456789\r\n" + lastChunk, "a\r\n0123456789\r\n" + lastChunk, "004\r\nbody\r\n000\r\n\r\n", chunk(hidden) + lastChunk, chunk("\r\n") + lastChunk, chunk("0\r\n\r\n") + lastChunk,
		strings.Repeat(chunk("x"), 300) + lastChunk, chunk(strings.Repeat("x", 70_000)) + lastChunk, "000000000000004\r\nbody\r\n" + lastChunk,
	} {
		s.accept(chunked(body))
	}
	for _, size := range []string{
		"", " ", "+4", "-4", "-0", "0x4", "0X4", "x4", "\\x4", "4 ", "4\t", " 4", "\t4", "4 4", "4,4", "4.", "4\x00", "\x004", "4\x0b", "4\x0c", "4g", "g", "4h", "4L", "4_0", "４", "\"4\"", "'4'", "\xa04", "#4", "$4", "4\xff",
		"ffffffffffffffff", "10000000000000004", "8000000000000000", "fffffffffffffffff", "0000000000000000000000004", "100000000000000000000000000000004", "7fffffffffffffff",
	} {
		s.refuse(chunked(size + "\r\nbody\r\n" + lastChunk + hidden))
	}
	for _, extension := range []string{
		";", ";a", ";a=b", "; a=b", " ;a=b", ";a=\"b\"", ";a=\"b;c\"", ";a=\"b\\\"c\"", ";a=b;c=d", ";\x00", ";a\nb", ";a\rb", ";\xff", ";a=\"\r\n\"", ";" + strings.Repeat("a", 5000), "\t;a", ",a", " a", ";a=b c", ";=", ";;", "=a",
	} {
		s.refuse(chunked("4" + extension + "\r\nbody\r\n" + lastChunk + hidden))
		s.refuse(chunked("4\r\nbody\r\n0" + extension + "\r\n\r\n" + hidden))
	}
	for _, body := range []string{
		"4\r\nbodyX\r\n", "4\r\nbody", "4\r\nbody\r", "4\r\nbody\n", "4\r\nbo", "5\r\nbody\r\n", "3\r\nbody\r\n", "4\r\nbody" + lastChunk, "4\r\nbody\r\n\r\n" + lastChunk, "4\nbody\r\n" + lastChunk, "4\rbody\r\n" + lastChunk, "4body\r\n" + lastChunk, "4\r\nbody\r\r\n" + lastChunk,
		"4\r\nbody\n\r" + lastChunk, "4\r\nbodyXX" + lastChunk, "4\r\nbody  " + lastChunk, "\n4\r\nbody\r\n" + lastChunk, "\r\n4\r\nbody\r\n" + lastChunk, "4\r\r\nbody\r\n" + lastChunk, "4\n\nbody\r\n" + lastChunk, "body", "", "0", "0\r", "0\n\n", "0\n\r\n", "0\r\n\n", "0\r\r\n\r\n", "0\r\n\r", "0\r\rX", "0\r\n\rX",
		"0\r\nX", "00000000000000000\r\n\r\n", "4\r\nbody\r\n0\r\n \r\n\r\n", "f\r\nbody\r\n" + lastChunk,
	} {
		text := chunked(body)
		switch body {
		case "", "0", "0\r", "4\r\nbo", "4\r\nbody", "4\r\nbody\r", "0\r\n\r", "0\r\nX":
			s.either(text) // the end is missing, or what follows makes it good
		default:
			s.refuse(text + hidden)
		}
	}
}

func trailers(s *set) {
	with := func(lines ...string) string {
		return chunked(chunk("body") + "0\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n")
	}
	for _, field := range []string{
		"X-Sum: 1", "X-Empty:", "Content-Length: 0", "Content-Length: 100", "Transfer-Encoding: chunked", "Host: evil.test", "X-Api-Key: stolen", "Authorization: Bearer stolen", "Cookie: a=b", "Connection: close", "Trailer: X", "Content-Type: a/b", "Content-Encoding: gzip", "Expect: 100-continue",
		"Upgrade: h2c", "TE: trailers", "X-Exchange: 1", "Cache-Control: no-cache", "Range: bytes=0-", "Set-Cookie: a=b",
	} {
		s.accept(with(field))
		s.accept(chunked(chunk("body")+"0\r\n"+field+"\r\n\r\n", "Trailer: X-Sum"))
	}
	for _, line := range []string{
		"X : y", "X\t: y", " X: y", "\tX: y", ": y", "X", "X y", "X\x00: y", "X: \x00", "X: y\rZ: w", "X: y\nZ: w", "X: y\r\n z", "X: y\r\n\tz", "X: \x07", "\x00", "X(a): y", "X: y\r", "\rX: y", "X[]: y", "GET /" + Hidden + number + " HTTP/1.1", "X: \x7f",
	} {
		s.refuse(with(line) + hidden)
	}
	for _, names := range []string{"Content-Length", "transfer-encoding", "X, Content-Length", "Trailer"} {
		s.refuse(chunked(lastChunk, "Trailer: "+names) + hidden)
	}
	s.accept(chunked(lastChunk, "Trailer: X-Api-Key, Host"))
	s.refuse(chunked(chunk("body") + "0\r\n" + strings.Repeat("X: y\r\n", 200) + "\r\n" + hidden))
	s.refuse(chunked(chunk("body") + "0\r\nX: " + strings.Repeat("y", 70_000) + "\r\n\r\n" + hidden))
}
