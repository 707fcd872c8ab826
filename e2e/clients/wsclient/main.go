// Command wsclient is a WebSocket client that speaks frame by frame. It goes
// through a list of cases, after Autobahn's (sizes, control frames, reserved
// bits, opcodes, fragments, UTF-8, closing, limits, compression), and prints for
// each what the server sent back, all of it, as a digest. So two ways to one
// server can be compared.
//
//	wsclient [-connect ADDRESS -ca FILE -authorization VALUE] [-compressed] https://HOST/PATH
//
// With -compressed the cases are those with permessage-deflate (RFC 7692).
//
// By a library it prints with -messages the messages that come, and sends with -echo
// each line of its input as one too; and prints how the connection was closed.
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
	messages := flag.Bool("messages", false, "print messages")
	compression := flag.Bool("compressed", false, "send compressed messages")
	flag.Parse()
	list := cases
	if *compression {
		list = compressed
	}
	err := error(nil)
	if *lines || *messages {
		err = echo(flag.Arg(0), *lines)
	} else {
		err = run(flag.Arg(0), *connect, *ca, *authorization, list())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "wsclient:", err)
		os.Exit(1)
	}
}

// echo prints messages, sends lines if it is asked to, and ends when the connection
// does.
func echo(target string, lines bool) error {
	ctx := context.Background()
	c, _, err := websocket.Dial(ctx, target, nil)
	if err != nil {
		return err
	}
	defer c.CloseNow()
	if lines {
		go func() {
			input := bufio.NewScanner(os.Stdin)
			for input.Scan() {
				if c.Write(ctx, websocket.MessageText, input.Bytes()) != nil {
					return
				}
			}
		}()
	}
	for {
		_, message, err := c.Read(ctx)
		var closed websocket.CloseError
		switch {
		case errors.As(err, &closed) && closed.Reason != "":
			fmt.Printf("closed: %s\n", closed.Reason)
			return nil
		case errors.As(err, &closed):
			fmt.Printf("closed: %d\n", closed.Code)
			return nil
		case err != nil:
			return err
		}
		fmt.Printf("%s\n", message)
	}
}

func run(target, connect, ca, authorization string, list []testCase) error {
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
	for _, one := range list {
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
