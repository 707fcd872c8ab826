// Package vectors makes streams of bytes that HTTP/1 readers are known to
// disagree about, and their harmless neighbours: from the rules of RFC 9112 and
// RFC 9110, each broken in every way that a server was ever lenient about, and
// by chance mutations. The same ones at every run.
package vectors

import (
	"fmt"
	"strings"
)

// Want is what a reader must make of a vector that lets one reading through.
type Want int

const (
	// Either it is forwarded as what it is, or refused.
	Either Want = iota
	// Accept is a stream of complete requests that RFC 9112 leaves no doubt about.
	Accept
	// Refuse is a stream with an error or a doubt before the end of its first request.
	Refuse
)

// Vector is what one client says.
type Vector struct {
	Number int
	Group  string // the rule it is about
	Text   string
	Want   Want
	// Requests is how many an accepted vector has.
	Requests int
}

// Host is the one that every vector's requests are for, but those that are about it.
const Host = "origin.test"

// Own marks the targets of requests that a vector openly makes, Hidden those of
// requests that are inside of a body or behind an error. The number follows.
const (
	Own    = "v"
	Hidden = "s"
)

func (v Vector) String() string {
	text := v.Text
	if len(text) > 400 {
		text = text[:400] + "…"
	}
	return fmt.Sprintf("%d (%s) %q", v.Number, v.Group, text)
}

// number stands for the vector's in its text. It is as long as what replaces it.
const number = "####"

// set collects vectors.
type set struct {
	all   []Vector
	group string
}

func (s *set) add(want Want, requests int, text string) {
	n := len(s.all)
	s.all = append(s.all, Vector{Number: n, Group: s.group, Text: strings.ReplaceAll(text, number, fmt.Sprintf("%04d", n)), Want: want, Requests: requests})
}

func (s *set) accept(text string) { s.add(Accept, 1, text) }
func (s *set) refuse(text string) { s.add(Refuse, 0, text) }
func (s *set) either(text string) { s.add(Either, 0, text) }

// All gives every vector.
func All() []Vector {
	var s set
	for _, group := range []struct {
		name string
		make func(*set)
	}{
		{"request line", requestLines},
		{"version", versions},
		{"target", targets},
		{"host", hosts},
		{"content-length", contentLengths},
		{"transfer-encoding", transferEncodings},
		{"both framings", bothFramings},
		{"line ends", lineEnds},
		{"folding", folding},
		{"chunks", chunks},
		{"trailers", trailers},
		{"field names", fieldNames},
		{"field values", fieldValues},
		{"connection", connection},
		{"expect", expect},
		{"upgrade", upgrade},
		{"own credential", ownCredential},
		{"pipelining", pipelining},
		{"methods with bodies", methodBodies},
		{"sizes", sizes},
		{"mutations", mutations},
	} {
		s.group = group.name
		group.make(&s)
	}
	return s.all
}

// hidden is a request that must never be one by itself.
const hidden = "GET /" + Hidden + number + " HTTP/1.1\r\nHost: " + Host + "\r\nX-Api-Key: stolen\r\n\r\n"

// request is a request with one header field a line beside Host.
func request(method string, body string, fields ...string) string {
	var b strings.Builder
	b.WriteString(method + " /" + Own + number + " HTTP/1.1\r\nHost: " + Host + "\r\n")
	for _, field := range fields {
		b.WriteString(field + "\r\n")
	}
	return b.String() + "\r\n" + body
}

func get(fields ...string) string { return request("GET", "", fields...) }

// sized is a request with a body of its own and one more field.
func sized(body string, fields ...string) string {
	return request("POST", body, append(fields, fmt.Sprintf("Content-Length: %d", len(body)))...)
}

// chunked is a request whose body is coded already.
func chunked(coded string, fields ...string) string {
	return request("POST", coded, append(fields, "Transfer-Encoding: chunked")...)
}

// chunk codes a piece of a body.
func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

const lastChunk = "0\r\n\r\n"
