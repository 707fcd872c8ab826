// Package client speaks the control plane's admin REST API. A method is one
// call, or one list read to its end; what it gives are the types of package
// control. Secrets only go in: no answer of the API holds one.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"sallyport/control"
)

// callTimeout bounds a call that waits for nothing but the database.
const callTimeout = 30 * time.Second

// maxAnswer bounds an answer's body, in bytes.
const maxAnswer = 16 << 20

// Config says where the control plane is and who asks.
type Config struct {
	Server    string         // http://HOST:PORT, loopback only, or https://HOST:PORT
	Token     control.Secret // an API token
	CA        []byte         // PEM certificates trusted beside the system's; may be empty
	UserAgent string
	Expires   func(time.Time) // called with when the token ends, once that is near; may be nil
}

// Client is safe for concurrent use.
type Client struct {
	base    *url.URL
	token   control.Secret
	agent   string
	expires func(time.Time)
	http    *http.Client
}

// New checks the configuration; it connects to nothing.
func New(config Config) (*Client, error) {
	base, err := ParseServer(config.Server)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second,
	}
	if base.Scheme == "http" {
		// The name was checked, this checks the address it resolved to.
		transport.DialContext = (&net.Dialer{Timeout: 10 * time.Second, Control: loopbackOnly}).DialContext
	} else {
		transport.DialContext = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
		transport.Proxy = http.ProxyFromEnvironment
		if transport.TLSClientConfig.RootCAs, err = roots(config.CA); err != nil {
			return nil, err
		}
	}
	return &Client{
		base: base, token: config.Token, agent: config.UserAgent, expires: config.Expires,
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// ParseServer reads a control plane's address. Plain HTTP is for this machine
// alone, since the token would cross the network readable.
func ParseServer(server string) (*url.URL, error) {
	u, err := url.Parse(server)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, control.Errorf(control.CodeInvalid, "the server's address must look like https://HOST:PORT or http://127.0.0.1:PORT")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, control.Errorf(control.CodeInvalid, "the server's address has no user, query or fragment: https://HOST:PORT")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, &PlainHTTPError{Host: u.Host}
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u, nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func loopbackOnly(_, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if !isLoopback(host) {
		return &PlainHTTPError{Host: address}
	}
	return nil
}

func roots(pem []byte) (*x509.CertPool, error) {
	if len(pem) == 0 {
		return nil, nil // the system's
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, control.Errorf(control.CodeInvalid, "the CA file holds no PEM certificate")
	}
	return pool, nil
}

// call does one request. in is sent as JSON unless nil, out is filled unless nil.
func (c *Client) call(ctx context.Context, timeout time.Duration, method, path string, in, out any) error {
	return c.callWith(ctx, timeout, nil, method, path, in, out)
}

// callWith is call with fields of its own in the request's header; nil is none.
func (c *Client) callWith(ctx context.Context, timeout time.Duration, header http.Header, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, body, err := c.request(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer clear(body)
	nameOnce(req)
	for name, values := range header {
		if req.Header[name] = values; values == nil {
			req.Header.Del(name)
		}
	}
	resp, answer, err := c.exchange(req)
	if err != nil {
		return err
	}
	if len(answer) > maxAnswer {
		return fmt.Errorf("%s %s: the answer is longer than %d bytes", method, path, maxAnswer)
	}
	if at, err := time.Parse(time.RFC3339, resp.Header.Get("Sallyport-Token-Expires")); err == nil && c.expires != nil {
		c.expires(at)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return problem(resp, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: %s does not answer as a control plane of Sallyport: %w", method, path, c.base, err)
	}
	return nil
}

func (c *Client) request(ctx context.Context, method, path string, in any) (*http.Request, []byte, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, nil, fmt.Errorf("%s %s: write the request: %w", method, path, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.String()+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if len(c.token) > 0 {
		req.Header.Set("Authorization", "Bearer "+string(c.token))
	}
	req.Header.Set("Accept", "application/json, application/problem+json")
	req.Header.Set("User-Agent", c.agent)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
		if method == http.MethodPut || method == http.MethodPatch {
			req.Header.Set("If-Match", "*") // what is sent is all that is wanted, whatever was there
		}
	}
	return req, body, nil
}

// unreachable drops the URL that *url.Error carries and keeps the cause.
// sent is a request that may have been done all the same.
func (c *Client) unreachable(err error, sent bool) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var plain *PlainHTTPError
	if errors.As(err, &plain) {
		return plain
	}
	return &UnreachableError{Server: c.base.String(), Err: err, Sent: sent}
}

// path joins segments, escaped. A segment that would change the path's shape is
// refused, so that an empty name never turns "delete one" into something else.
func path(segments ...string) (string, error) {
	var b strings.Builder
	b.WriteString("/v1")
	for _, s := range segments {
		if s == "" || s == "." || s == ".." {
			return "", control.Errorf(control.CodeInvalid, "%q is not a name", s)
		}
		b.WriteString("/")
		b.WriteString(url.PathEscape(s))
	}
	return b.String(), nil
}

// get fetches one thing.
func get[T any](ctx context.Context, c *Client, segments ...string) (T, error) {
	return send[T](ctx, c, http.MethodGet, nil, segments...)
}

// send asks for one thing with a body.
func send[T any](ctx context.Context, c *Client, method string, in any, segments ...string) (T, error) {
	var out T
	p, err := path(segments...)
	if err != nil {
		return out, err
	}
	return out, c.call(ctx, callTimeout, method, p, in, &out)
}

// act does something that has no answer but that it is done.
func act(ctx context.Context, c *Client, method string, segments ...string) error {
	p, err := path(segments...)
	if err != nil {
		return err
	}
	return c.call(ctx, callTimeout, method, p, nil, nil)
}

// pageSize is how many things one call of a list asks for.
const pageSize = 100

// list reads a list to its end, or to limit things when that is not 0.
func list[T any](ctx context.Context, c *Client, limit int, segments ...string) ([]T, error) {
	p, err := path(segments...)
	if err != nil {
		return nil, err
	}
	all, after := []T{}, ""
	for {
		size := pageSize
		if limit > 0 {
			size = min(size, limit-len(all))
		}
		query := url.Values{"limit": {fmt.Sprint(size)}}
		if after != "" {
			query.Set("after", after)
		}
		var page struct {
			Items []T    `json:"items"`
			Next  string `json:"next"`
		}
		if err := c.call(ctx, callTimeout, http.MethodGet, p+"?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == "" || limit > 0 && len(all) >= limit {
			return all, nil
		}
		if page.Next == after || len(page.Items) == 0 {
			return nil, fmt.Errorf("GET %s: the list does not end", p)
		}
		after = page.Next
	}
}
