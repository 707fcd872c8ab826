package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// conn1 is one HTTP/1.1 connection, spoken by hand so that the client's own cost
// is small and the same for every way.
type conn1 struct {
	net.Conn
	reader *bufio.Reader
	get    []byte // the request for /
	body   []byte
}

func (c *client) dial1(name string) (*conn1, error) {
	conn, err := c.dial(name, "http/1.1")
	if err != nil {
		return nil, err
	}
	return newConn1(conn, name), nil
}

func newConn1(conn net.Conn, name string) *conn1 {
	return &conn1{Conn: conn, reader: bufio.NewReaderSize(conn, 4096), get: []byte(head("GET", "/", name, "")), body: make([]byte, len(answer))}
}

func head(method, path, name, more string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: " + name + "\r\nUser-Agent: bench\r\nAccept: application/json\r\n" + more + "\r\n"
}

// response is what matters of a response's head.
type response struct {
	length int64
	seen   string
	got    string
}

// ask sends the request for / and checks what comes back.
func (c *conn1) ask() (seen string, err error) {
	if _, err := c.Write(c.get); err != nil {
		return "", err
	}
	r, err := c.readHead()
	if err != nil {
		return "", err
	}
	if r.length != int64(len(answer)) {
		return "", fmt.Errorf("%d bytes came, not %d", r.length, len(answer))
	}
	if _, err := io.ReadFull(c.reader, c.body); err != nil {
		return "", err
	}
	if !bytes.Equal(c.body, answer) {
		return "", errors.New("the answer is not the origin's")
	}
	return r.seen, nil
}

func (c *conn1) readHead() (response, error) {
	r := response{length: -1}
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return r, err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		rest := make([]byte, min(c.reader.Buffered(), 1000))
		c.reader.Read(rest) // for the message only
		return r, fmt.Errorf("%s%s", line, rest)
	}
	for {
		if line, err = c.reader.ReadSlice('\n'); err != nil {
			return r, err
		}
		name, value, found := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(":"))
		if !found {
			if len(name) > 0 {
				return r, fmt.Errorf("header line %q", line)
			}
			return r, nil
		}
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if r.length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return r, err
			}
		case bytes.EqualFold(name, []byte(seenHeader)):
			r.seen = string(value)
		case bytes.EqualFold(name, []byte("X-Got")):
			r.got = string(value)
		}
	}
}

// load1 asks over kept connections, which it opens first if need be.
func (c *client) load1(j job) (outcome, error) {
	for len(c.kept[j.Name]) < j.Connections {
		conn, err := c.dial1(j.Name)
		if err != nil {
			return outcome{}, err
		}
		if _, err := conn.ask(); err != nil {
			return outcome{}, err
		}
		c.kept[j.Name] = append(c.kept[j.Name], conn)
	}
	conns := c.kept[j.Name]
	result, err := newTally(j).repeat(j.Want, func(lane int) (string, error) { return conns[lane].ask() })
	if err != nil {
		for _, conn := range conns {
			conn.Close()
		}
		delete(c.kept, j.Name)
	}
	return result, err
}

// openEach opens a connection for each request. What it takes is from dialling to the end
// of the answer.
func (c *client) openEach(j job) (outcome, error) {
	return newTally(j).repeat(j.Want, func(int) (string, error) {
		conn, err := c.dial1(c.next(j.Name))
		if err != nil {
			return "", err
		}
		defer conn.Close()
		return conn.ask()
	})
}

func (c *client) next(name string) string {
	c.fresh++
	return strings.Replace(name, "%d", strconv.Itoa(c.fresh), 1)
}

// hold opens connections until there are as many, asks once on each, and leaves them open.
func (c *client) hold(j job) (outcome, error) {
	begun := time.Now()
	for len(c.held) < j.Connections && time.Since(begun) < j.Limit {
		conn, err := c.dial1(j.Name)
		if err != nil {
			return outcome{}, err
		}
		if _, err := conn.ask(); err != nil {
			return outcome{}, err
		}
		c.held = append(c.held, conn)
	}
	return outcome{Open: len(c.held), Elapsed: time.Since(begun)}, nil
}

// body moves one large body, down to the client or up to the origin, over a
// connection that has been used before.
func (c *client) body(j job) (outcome, error) {
	conn, err := c.dial1(j.Name)
	if err != nil {
		return outcome{}, err
	}
	defer conn.Close()
	if _, err := conn.ask(); err != nil {
		return outcome{}, err
	}
	begun := time.Now()
	if j.Do == "down" {
		err = conn.download(j)
	} else {
		err = conn.upload(j)
	}
	return outcome{Requests: 1, Elapsed: time.Since(begun)}, err
}

func (c *conn1) download(j job) error {
	if _, err := io.WriteString(c, head("GET", fmt.Sprintf("/bytes/%d", j.Body), j.Name, "")); err != nil {
		return err
	}
	r, err := c.readHead()
	if err != nil {
		return err
	}
	if r.length != j.Body {
		return fmt.Errorf("%d bytes were announced, not %d", r.length, j.Body)
	}
	buffer, at := make([]byte, len(block)), 0
	for left := j.Body; left > 0; {
		n, err := c.reader.Read(buffer[:min(left, int64(len(block)-at))])
		if err != nil {
			return err
		}
		if !bytes.Equal(buffer[:n], block[at:at+n]) {
			return fmt.Errorf("the body changed, %d bytes before its end", left)
		}
		at, left = (at+n)%len(block), left-int64(n)
	}
	return nil
}

func (c *conn1) upload(j job) error {
	if _, err := io.WriteString(c, head("POST", "/sink", j.Name, fmt.Sprintf("Content-Type: application/octet-stream\r\nContent-Length: %d\r\n", j.Body))); err != nil {
		return err
	}
	for left := j.Body; left > 0; {
		n, err := c.Write(block[:min(left, int64(len(block)))])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	r, err := c.readHead()
	if err != nil {
		return err
	}
	if r.got != strconv.FormatInt(j.Body, 10) {
		return fmt.Errorf("the origin was given %s bytes, not %d", r.got, j.Body)
	}
	_, err = io.CopyN(io.Discard, c.reader, r.length)
	return err
}
