package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
)

// listeners are open before anything else is touched, so that a port in use
// costs nothing.
type listeners struct{ admin, sidecar, metrics net.Listener }

func (l *listeners) close() {
	for _, one := range []net.Listener{l.admin, l.sidecar, l.metrics} {
		if one != nil {
			one.Close()
		}
	}
}

func (cmd *serveCmd) listen() (l *listeners, err error) {
	l = &listeners{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	for _, one := range []struct {
		flag, address string
		into          *net.Listener
	}{
		{"--admin-listen", cmd.AdminListen, &l.admin},
		{"--sidecar-listen", cmd.SidecarListen, &l.sidecar},
		{"--metrics-listen", cmd.MetricsListen, &l.metrics},
	} {
		if *one.into, err = net.Listen("tcp", one.address); err == nil {
			continue
		}
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		err = fmt.Errorf("listen on %s: %w", one.address, err)
		if errors.Is(err, syscall.EADDRINUSE) {
			return l, withHint(err, "another program, perhaps another sallyport-control, has this port; choose another with %s", one.flag)
		}
		return l, withHint(err, "want ADDRESS:PORT of this machine for %s", one.flag)
	}
	return l, nil
}

// sidecarURL is where sidecars are told to find the sidecar API.
func (cmd *serveCmd) sidecarURL(listener net.Listener) (string, error) {
	if cmd.SidecarURL != "" {
		var all []string
		for one := range strings.SplitSeq(cmd.SidecarURL, ",") {
			u, err := url.Parse(one)
			if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
				return "", fmt.Errorf("--sidecar-url %q: want https://HOST:PORT, or several with commas", one)
			}
			all = append(all, "https://"+u.Host)
		}
		return strings.Join(all, ","), nil
	}
	address := listener.Addr().(*net.TCPAddr)
	if address.IP.IsUnspecified() {
		return "", withHint(fmt.Errorf("--sidecar-listen %s says on which addresses to listen, not where sidecars find them", cmd.SidecarListen), "give that with --sidecar-url https://HOST:PORT")
	}
	return "https://" + address.String(), nil
}

// names are what a listener's own certificate is for: its address, this machine,
// and the host that clients are told.
func names(listener net.Listener, advertised, hostname string) []string {
	all := []string{"localhost"}
	if ip := listener.Addr().(*net.TCPAddr).IP; !ip.IsUnspecified() {
		all = append(all, ip.String())
	}
	for one := range strings.SplitSeq(advertised, ",") {
		if u, err := url.Parse(one); err == nil && u.Hostname() != "" {
			all = append(all, u.Hostname())
		}
	}
	if hostname != "" {
		all = append(all, hostname)
	}
	return all
}

// certificateFunc is tls.Config.GetCertificate.
type certificateFunc = func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// adminTLS is the admin listener's certificate: the operator's, or one of our own
// CA, or on loopback none.
func (cmd *serveCmd) adminTLS(listener net.Listener, own func() (certificateFunc, error)) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if (cmd.AdminCert == "") != (cmd.AdminKey == "") {
		return nil, errors.New("--admin-cert and --admin-key go together")
	}
	if cmd.AdminCert != "" {
		certificate, err := tls.LoadX509KeyPair(cmd.AdminCert, cmd.AdminKey)
		if err != nil {
			return nil, fmt.Errorf("read the admin API's certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{certificate}
		return config, nil
	}
	if listener.Addr().(*net.TCPAddr).IP.IsLoopback() {
		return nil, nil
	}
	var err error
	config.GetCertificate, err = own()
	return config, err
}
