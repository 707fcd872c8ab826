package vectors

import (
	"math/rand/v2"
	"strings"
)

// mutated is how many vectors are made by chance.
const mutated = 400

// pieces are what readers give a meaning to.
var pieces = []string{
	"\r\n", "\n", "\r", " ", "\t", "\x00", "\x0b", ":", ";", ",", "0", "4", "\r\n\r\n", "\r\n ", "chunked", "Transfer-Encoding: chunked\r\n", "Content-Length: 4\r\n", "Content-Length: 0\r\n", "Host: evil.test\r\n",
	"Connection: close\r\n", "Connection: X-Api-Key\r\n", "HTTP/1.1", "HTTP/1.0", "\xff", "\"", "%", "/", "0\r\n\r\n", "Expect: 100-continue\r\n", "TE: trailers\r\n", hidden,
}

// mutations changes good requests in one to three places. The seed is fixed.
func mutations(s *set) {
	random := rand.New(rand.NewPCG(9112, 9110))
	good := []string{
		get(), get("X: y", "Accept: */*"), sized("body"), sized(hidden), chunked(chunk("body") + lastChunk), chunked(chunk(hidden)+lastChunk, "TE: trailers"), chunked(chunk("body") + "0\r\nX-Sum: 1\r\n\r\n"),
		get() + get(), sized("body") + get(), chunked(chunk("body")+lastChunk) + sized("body"), request("PUT", "body", "Content-Length: 4", "Connection: keep-alive"),
	}
	for range mutated {
		text := good[random.IntN(len(good))]
		for range 1 + random.IntN(3) {
			text = mutate(random, text)
		}
		s.either(text)
	}
}

func mutate(random *rand.Rand, text string) string {
	lines := strings.SplitAfter(text, "\r\n")
	line := random.IntN(len(lines))
	at := random.IntN(len(text) + 1)
	switch random.IntN(7) {
	case 0:
		return text[:at] + pieces[random.IntN(len(pieces))] + text[at:]
	case 1: // at the begin of a line, where it matters most
		lines[line] = pieces[random.IntN(len(pieces))] + lines[line]
	case 2:
		lines[line] += lines[line]
	case 3:
		other := random.IntN(len(lines))
		lines[line], lines[other] = lines[other], lines[line]
	case 4:
		lines[line] = ""
	case 5:
		lines[line] = strings.TrimSuffix(lines[line], "\r\n") + ends[random.IntN(len(ends))]
	default:
		to := min(len(text), at+1+random.IntN(4))
		return text[:at] + text[to:]
	}
	return strings.Join(lines, "")
}
