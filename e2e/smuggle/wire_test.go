package smuggle_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// tap notes what goes over a connection.
type tap struct {
	net.Conn
	mu             sync.Mutex
	sent, received []byte
}

func (t *tap) Write(p []byte) (int, error) {
	n, err := t.Conn.Write(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent = append(t.sent, p[:n]...)
	return n, err
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.received = append(t.received, p[:n]...)
	return n, err
}

// SyscallConn lets the sidecar look at the connection itself.
func (t *tap) SyscallConn() (syscall.RawConn, error) { return t.Conn.(*net.TCPConn).SyscallConn() }

// CloseWrite is what a TCP connection has.
func (t *tap) CloseWrite() error { return t.Conn.(*net.TCPConn).CloseWrite() }

// written is one request as it stands on an upstream connection.
type written struct {
	method, target string
	exchange       string
	length         int64
	whole          bool
	answered       bool // it has its response
}

// readWritten reads what the sidecar wrote to an upstream connection. It is
// stricter than any server: one spelling of everything.
func readWritten(text []byte) ([]written, error) {
	var all []written
	for len(text) > 0 {
		head, rest, found := bytes.Cut(text, []byte("\r\n\r\n"))
		if !found {
			return all, nil // broke off within a head
		}
		w, body, err := readHead(string(head))
		if err != nil {
			return all, fmt.Errorf("%w: %q", err, head)
		}
		switch {
		case body < 0:
			w.length, rest, w.whole, err = readChunks(rest)
			if err != nil {
				return all, fmt.Errorf("%w: %q", err, text)
			}
		default:
			w.length = min(body, int64(len(rest)))
			w.whole = w.length == body
			rest = rest[w.length:]
		}
		all = append(all, w)
		if !w.whole {
			return all, nil
		}
		text = rest
	}
	return all, nil
}

// readHead gives the length of the body that follows, -1 for chunks.
func readHead(head string) (w written, body int64, err error) {
	lines := strings.Split(head, "\r\n")
	if strings.ContainsAny(strings.Join(lines, ""), "\r\n\x00") {
		return w, 0, fmt.Errorf("a line end within a line")
	}
	words := strings.Split(lines[0], " ")
	if len(words) != 3 || words[2] != "HTTP/1.1" {
		return w, 0, fmt.Errorf("the request line")
	}
	w.method, w.target = words[0], words[1]
	fields := map[string][]string{}
	for _, line := range lines[1:] {
		name, value, found := strings.Cut(line, ":")
		if !found || name == "" || strings.ContainsAny(name, " \t\"(),/:;<=>?@[\\]{}") {
			return w, 0, fmt.Errorf("the field %q", line)
		}
		name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
		fields[name] = append(fields[name], strings.TrimSpace(value))
	}
	lengths, codings := fields["content-length"], fields["transfer-encoding"]
	switch {
	case len(fields["host"]) != 1, len(fields["x-exchange"]) != 1:
		return w, 0, fmt.Errorf("not one Host and one record")
	case !slices.Equal(fields["x-api-key"], []string{canary}):
		return w, 0, fmt.Errorf("not one credential")
	case fields["authorization"] != nil, fields["proxy-authorization"] != nil:
		return w, 0, fmt.Errorf("another credential")
	case fields["keep-alive"] != nil, fields["proxy-connection"] != nil, fields["connection"] != nil, fields["upgrade"] != nil, fields["te"] != nil && !slices.Equal(fields["te"], []string{"trailers"}):
		return w, 0, fmt.Errorf("a field of the client's connection")
	case len(lengths)+len(codings) > 1:
		return w, 0, fmt.Errorf("two framings")
	}
	w.exchange = fields["x-exchange"][0]
	switch {
	case codings != nil && codings[0] == "chunked":
		return w, -1, nil
	case codings != nil:
		return w, 0, fmt.Errorf("a coding")
	case lengths != nil:
		body, err = strconv.ParseInt(lengths[0], 10, 64)
		if err != nil || strconv.FormatInt(body, 10) != lengths[0] {
			return w, 0, fmt.Errorf("the length")
		}
	}
	return w, body, nil
}

func readChunks(text []byte) (length int64, rest []byte, whole bool, err error) {
	for {
		line, after, found := bytes.Cut(text, []byte("\r\n"))
		if !found {
			return length, nil, false, nil
		}
		size, err := strconv.ParseUint(string(line), 16, 31)
		switch {
		case err != nil:
			return length, nil, false, fmt.Errorf("the chunk size %q", line)
		case size == 0 && len(after) >= 2:
			rest, found = bytes.CutPrefix(after, []byte("\r\n"))
			if !found {
				return length, nil, false, fmt.Errorf("a trailer")
			}
			return length, rest, true, nil
		case int(size)+2 > len(after):
			return length, nil, false, nil
		case string(after[size:size+2]) != "\r\n":
			return length, nil, false, fmt.Errorf("the end of a chunk")
		}
		length, text = length+int64(size), after[size+2:]
	}
}

// answered is one response on a connection.
type answered struct {
	status int
	seen   string
}

// readAnswers reads the final responses to requests made by these methods, and
// gives what follows them, which must be nothing.
func readAnswers(text []byte, methods []string) (all []answered, rest []byte, err error) {
	r := bufio.NewReader(bytes.NewReader(text))
	for {
		if _, err := r.Peek(1); err == io.EOF {
			return all, nil, nil
		}
		if len(all) == len(methods) {
			rest, err = io.ReadAll(r)
			return all, rest, err
		}
		response, err := http.ReadResponse(r, &http.Request{Method: methods[len(all)]})
		if err != nil {
			return all, nil, err
		}
		if response.StatusCode < 200 && response.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		all = append(all, answered{response.StatusCode, response.Header.Get("X-Seen")})
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			return all, nil, nil // broke off, which the client sees
		}
	}
}
