package forward

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
)

// Target says where events go.
type Target struct {
	Name  string   // of its place in the database
	Teams []string // names; none: all teams and the installation

	kind    string // of kinds
	address string // HOST:PORT
	path    string // of OTLP
	headers string // file of headers
	tls     *tls.Config
}

// kinds are the schemes of targets and their usual ports.
var kinds = map[string]string{"syslog+tcp": "601", "syslog+tls": "6514", "otlp+http": "4318", "otlp+https": "4318"}

// ParseTarget reads a target, as in syslog+tls://HOST:6514?ca=FILE or
// otlp+https://HOST:4318?headers=FILE. Files of certificates are read now.
func ParseTarget(text string) (Target, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Target{}, errors.New("want syslog+tls://HOST:PORT, syslog+tcp://…, otlp+https://… or otlp+http://…")
	}
	port, known := kinds[u.Scheme]
	otlp := u.Scheme == "otlp+http" || u.Scheme == "otlp+https"
	secure := u.Scheme == "syslog+tls" || u.Scheme == "otlp+https"
	switch {
	case !known || u.Hostname() == "" || u.Fragment != "":
		return Target{}, errors.New("want syslog+tls://HOST:PORT, syslog+tcp://…, otlp+https://… or otlp+http://…")
	case u.User != nil:
		return Target{}, errors.New("a password does not belong in a URL, which others see: give headers=FILE")
	case !otlp && u.Path != "" && u.Path != "/":
		return Target{}, errors.New("syslog has no path")
	}
	if u.Port() != "" {
		port = u.Port()
	}
	t := Target{kind: u.Scheme, address: net.JoinHostPort(u.Hostname(), port), path: "/v1/logs"}
	if u.Path != "" && u.Path != "/" {
		t.path = u.Path
	}
	t.Name = t.kind + "://" + t.address
	if otlp {
		t.Name += t.path
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Target{}, errors.New("what is after ? can't be read: want NAME=VALUE, with & between")
	}
	return t, t.configure(query, secure, otlp)
}

func (t *Target) configure(query url.Values, secure, otlp bool) error {
	for key, values := range query {
		if allowed := key == "team" || key == "name" || secure && slices.Contains([]string{"ca", "cert", "key"}, key) || otlp && key == "headers"; !allowed {
			return fmt.Errorf("%s does not take %q", t.kind, key)
		}
		if slices.Contains(values, "") || key != "team" && len(values) > 1 {
			return fmt.Errorf("%s: give it one value", key)
		}
	}
	if name := query.Get("name"); name != "" {
		t.Name = name
	}
	t.Teams, t.headers = query["team"], query.Get("headers")
	if t.headers != "" {
		if _, err := readHeaders(t.headers); err != nil {
			return err
		}
		if host, _, _ := net.SplitHostPort(t.address); !secure && !isLoopback(host) {
			return errors.New("headers are secrets, and do not go over a network without TLS: use otlp+https")
		}
	}
	if !secure {
		return nil
	}
	var err error
	t.tls, err = tlsConfig(t.address, query.Get("ca"), query.Get("cert"), query.Get("key"))
	return err
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func tlsConfig(address, ca, cert, key string) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("read ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("ca: %s has no PEM certificate", ca)
		}
	}
	if (cert == "") != (key == "") {
		return nil, errors.New("cert and key go together")
	}
	if cert != "" {
		certificate, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("read cert and key: %w", err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}

// open makes the target's receiver. It connects when something is sent.
func (t Target) open(from Sender) (Receiver, error) {
	if t.kind == "syslog+tcp" || t.kind == "syslog+tls" {
		return &syslog{address: t.address, tls: t.tls, from: from}, nil
	}
	return newOTLP(t, from), nil
}
