// Command wsclient is a WebSocket client that speaks frame by frame. It goes
// through a list of cases, after Autobahn's (sizes, control frames, reserved
// bits, opcodes, fragments, UTF-8, closing, limits, compression), and prints for
// each what the server sent back, all of it, as a digest. So two ways to one
// server can be compared.
//
//	wsclient [-connect ADDRESS -ca FILE -authorization VALUE] https://HOST/PATH
//
// With -echo it sends each line of its input as a message instead, by a library,
// and prints what comes back.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/coder/websocket"
)

func main() {
	connect := flag.String("connect", "", "dial this address instead of the host")
	ca := flag.String("ca", "", "trust the authority in this file")
	authorization := flag.String("authorization", "", "send this")
	lines := flag.Bool("echo", false, "send lines")
	flag.Parse()
	err := error(nil)
	if *lines {
		err = echo(flag.Arg(0))
	} else {
		err = run(flag.Arg(0), *connect, *ca, *authorization)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "wsclient:", err)
		os.Exit(1)
	}
}

// echo sends lines, and ends when the connection does.
func echo(target string) error {
	c, _, err := websocket.Dial(context.Background(), target, nil)
	if err != nil {
		return err
	}
	defer c.CloseNow()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		for {
			_, message, err := c.Read(ctx)
			if err != nil {
				return
			}
			fmt.Printf("%s\n", message)
		}
	}()
	go func() {
		input := bufio.NewScanner(os.Stdin)
		for input.Scan() {
			if c.Write(ctx, websocket.MessageText, input.Bytes()) != nil {
				return
			}
		}
	}()
	<-ctx.Done()
	return nil
}

func run(target, connect, ca, authorization string) error {
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	c := &client{url: u, authorization: authorization, address: net.JoinHostPort(u.Host, "443"), tls: &tls.Config{ServerName: u.Host, NextProtos: []string{"http/1.1"}}}
	if connect != "" {
		c.address = connect
	}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return err
		}
		c.tls.RootCAs = x509.NewCertPool()
		c.tls.RootCAs.AppendCertsFromPEM(pem)
	}
	for _, one := range cases() {
		result, err := c.try(one)
		if err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		fmt.Println(one.name, result)
	}
	return nil
}

type client struct {
	url           *url.URL
	address       string
	authorization string
	tls           *tls.Config
}

// patience bounds a case; the largest sends and gets 64 MiB.
const patience = 60 * time.Second

// try opens a WebSocket, sends the bytes of a case, and digests what comes back
// until the server ends the connection.
func (c *client) try(one testCase) (string, error) {
	conn, err := tls.Dial("tcp", c.address, c.tls)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", c.url.Path, c.url.Host)
	if one.extensions != "" {
		fmt.Fprintf(conn, "Sec-WebSocket-Extensions: %s\r\n", one.extensions)
	}
	if c.authorization != "" {
		fmt.Fprintf(conn, "Authorization: %s\r\n", c.authorization)
	}
	io.WriteString(conn, "\r\n")
	r := bufio.NewReader(conn)
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return "", errors.New(response.Status)
	}
	go func() {
		for rest := one.sent; len(rest) > 0; {
			n := len(rest)
			if one.chop > 0 {
				n = min(n, one.chop)
			}
			if _, err := conn.Write(rest[:n]); err != nil {
				return // the server had enough
			}
			rest = rest[n:]
		}
	}()
	digest := sha256.New()
	n, err := io.Copy(digest, r)
	if n == 0 && err != nil {
		return "", err // else it is the end of what the server refused
	}
	return fmt.Sprintf("%s %q: %d bytes, %x", response.Header.Get("Sec-Websocket-Accept"), response.Header.Get("Sec-Websocket-Extensions"), n, digest.Sum(nil)[:8]), nil
}
