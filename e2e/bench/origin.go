package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// The zones of the names that are asked for: one a policy of the sidecar. A name that
// begins with h2 is served over HTTP/2 only, another over HTTP/1.1 only.
const (
	keyedZone   = "keyed.test"   // a credential is injected
	openZone    = "open.test"    // none is bound
	throughZone = "through.test" // not decrypted
)

// answer is the JSON that a request gets: 1 KiB.
var answer = []byte(`{"text":"` + strings.Repeat("x", 1024-11) + `"}`)

// block is what large bodies repeat. It can't be compressed, and is the same in every process.
var block = func() []byte {
	b := make([]byte, 64<<10)
	source := rand.NewChaCha8([32]byte{1})
	source.Read(b) // never fails
	return b
}()

// seenHeader names what the origin saw of the request: the HTTP version, and of its
// Authorization enough that the client can tell which credential was injected, if any.
const seenHeader = "X-Seen"

func seen(version int, authorization string) string {
	if authorization == "" {
		return strconv.Itoa(version) + " -"
	}
	sum := sha256.Sum256([]byte(authorization))
	return strconv.Itoa(version) + " " + hex.EncodeToString(sum[:6])
}

// originRole serves, at port 443 of the address that is its argument:
//
//	GET /           1 KiB of JSON
//	GET /bytes/N    N bytes
//	POST /sink      how many bytes it was given
//	POST /echo      each gRPC message given back, over HTTP/2
//
// and answers DNS queries for any name with the address. The other arguments are
// its certificate and key.
func originRole(args []string) error {
	certificate, err := tls.LoadX509KeyPair(args[1], args[2])
	if err != nil {
		return err
	}
	one := &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}}
	two := &tls.Config{Certificates: one.Certificates, NextProtos: []string{"h2"}}
	// crypto/tls would let a client that offers HTTP/1.1 alone have it without ALPN.
	neither := &tls.Config{Certificates: one.Certificates, NextProtos: []string{"none"}}
	config := &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		switch {
		case !strings.HasPrefix(hello.ServerName, "h2"):
			return one, nil
		case slices.Contains(hello.SupportedProtos, "h2"):
			return two, nil
		}
		return neither, nil
	}}
	listener, err := net.Listen("tcp", net.JoinHostPort(args[0], "443"))
	if err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp", net.JoinHostPort(args[0], "53"))
	if err != nil {
		return err
	}
	multiplexed := &handed{Listener: listener, conns: make(chan net.Conn)}
	ends := make(chan error, 3)
	go func() { ends <- dns.ActivateAndServe(nil, packets, dns.HandlerFunc(resolver(args[0]))) }()
	go func() { ends <- (&http.Server{Handler: http.HandlerFunc(serve2)}).Serve(multiplexed) }()
	go func() { ends <- accept(listener, config, multiplexed.conns) }()
	return <-ends
}

// handed is a listener of connections that another has accepted.
type handed struct {
	net.Listener
	conns chan net.Conn
}

func (h *handed) Accept() (net.Conn, error) { return <-h.conns, nil }

func accept(listener net.Listener, config *tls.Config, multiplexed chan<- net.Conn) error {
	for {
		raw, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			conn := tls.Server(raw, config)
			if conn.Handshake() == nil && conn.ConnectionState().NegotiatedProtocol == "h2" {
				multiplexed <- conn
				return
			}
			defer conn.Close()
			serve1(conn) // ends with an error, mostly that the client is gone; others show at the client
		}()
	}
}

// closingHost is the first label of hosts whose connections carry one request, so that
// a proxy must open one upstream for each of a client's.
const closingHost = "once"

// serve1 is a bare HTTP/1.1 server, which costs less than net/http's. The strictness
// of a real one is not what is measured.
func serve1(conn net.Conn) error {
	reader, writer := bufio.NewReaderSize(conn, 4096), bufio.NewWriterSize(conn, 4096)
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return err
		}
		got, err := io.Copy(io.Discard, request.Body)
		if err != nil {
			return err
		}
		body, length := io.Reader(bytes.NewReader(answer)), int64(len(answer))
		if n, found := strings.CutPrefix(request.URL.Path, "/bytes/"); found {
			if length, err = strconv.ParseInt(n, 10, 64); err != nil {
				return err
			}
			body = io.LimitReader(new(endless), length)
		}
		last, more := strings.HasPrefix(request.Host, closingHost+"."), ""
		if last {
			more = "Connection: close\r\n"
		}
		fmt.Fprintf(writer, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s: %s\r\nX-Got: %d\r\n%s\r\n",
			length, seenHeader, seen(1, request.Header.Get("Authorization")), got, more)
		if length > int64(len(answer)) {
			if err := writer.Flush(); err != nil {
				return err
			}
			if _, err := io.CopyBuffer(struct{ io.Writer }{conn}, body, make([]byte, len(block))); err != nil {
				return err
			}
			continue
		}
		if _, err := io.Copy(writer, body); err != nil {
			return err
		}
		if err := writer.Flush(); err != nil || last {
			return err
		}
	}
}

// endless reads as block over and over.
type endless struct{ at int }

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, block[e.at:])
	e.at = (e.at + n) % len(block)
	return n, nil
}

func serve2(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set(seenHeader, seen(2, r.Header.Get("Authorization")))
	if r.URL.Path == "/echo" {
		header.Set("Content-Type", "application/grpc")
		header.Set("Trailer", "Grpc-Status")
		echo(w, r.Body)
		header.Set("Grpc-Status", "0")
		return
	}
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(answer)))
	w.Write(answer) // a client that is gone needs no answer
}

// echo gives each message back as it comes: a byte, its length in four, and itself.
func echo(w http.ResponseWriter, messages io.Reader) {
	buffer := make([]byte, 5+len(answer))
	for {
		if _, err := io.ReadFull(messages, buffer[:5]); err != nil {
			return
		}
		length := binary.BigEndian.Uint32(buffer[1:])
		if length > uint32(len(answer)) {
			return
		}
		if _, err := io.ReadFull(messages, buffer[5:5+length]); err != nil {
			return
		}
		if _, err := w.Write(buffer[:5+length]); err != nil {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
	}
}

// resolver gives address as the answer to every query for one of IPv4.
func resolver(address string) func(dns.ResponseWriter, *dns.Msg) {
	return func(w dns.ResponseWriter, query *dns.Msg) {
		reply := new(dns.Msg).SetReply(query)
		if question := query.Question[0]; question.Qtype == dns.TypeA {
			reply.Answer = append(reply.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 3600}, A: net.ParseIP(address),
			})
		}
		w.WriteMsg(reply) // a client that hears nothing asks again
	}
}
