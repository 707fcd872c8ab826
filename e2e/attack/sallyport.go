package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sallyport/control"
	"sallyport/e2e/stage"
)

// world is what the attacks of this program happen in: the origins, and the target.
type world struct {
	*origins
	target   *target
	refusals int // that were answered
	stops    []func()
}

// newWorld starts the origins, and Sallyport unless the flags name another target.
func newWorld(ctx context.Context, o options) (*world, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("run as root: the origins listen at ports below 1024, and a namespace is made")
	}
	authority, err := keptAuthority(o.authority)
	if err != nil {
		return nil, err
	}
	w := &world{origins: newOrigins(o.bound, o.elsewhere, authority)}
	if err := w.origins.start(); err != nil {
		return nil, fmt.Errorf("start the origins: %w; -origin and -elsewhere name other addresses", err)
	}
	w.stops = append(w.stops, w.origins.close)
	if o.foreign.url != "" {
		w.target, err = o.foreign.target()
	} else {
		err = w.startSallyport(ctx, o)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) close() {
	for _, stop := range slices.Backward(w.stops) {
		stop()
	}
}

// canaries are what Sallyport is given to keep: what must not be seen by a sandbox,
// with the characters that encodings differ in.
var canaries = []credential{
	{name: "api", hosts: []string{boundHost, boundHTTP2}, secret: `sk_live/4eC39Hq&Lyj"<W>Darj+tT1=zdp7dc`},
	{name: "basic", hosts: []string{basicHost, "h2" + basicHost}, secret: `pa55/w0rd"of<the>day&night+9=Zq4vT7xK`, user: "operator"},
	{name: "query", hosts: []string{queryHost, "h2" + queryHost}, secret: "qk-5fT0aZ9rLw3Xe7Yb1Nc8Md6Vg2Hj4", query: "key"},
	{name: "wild", hosts: []string{wildcardHost}, secret: "wk-8Rm2Jt6Pz0Qx4Ws9Ed7Cv1Bg5Nh3Ku"},
	{name: "rebind", hosts: []string{"*.rebind.test"}, secret: "rk-1Ua5Yi9Ol3Pm7Qn2Rb6Sc0Td4Ve8Wf"},
}

// deniedPath is what the agent may not ask a bound host for.
const deniedPath = "/admin"

func (w *world) startSallyport(ctx context.Context, o options) error {
	s, err := stage.New(ctx, "attack", o.bin)
	if err != nil {
		return err
	}
	w.stops = append(w.stops, s.Close)
	if err := errors.Join(s.UseNames(w.bound), os.WriteFile(s.Path("ca.pem"), w.authority.pem(), 0o644)); err != nil {
		return err
	}
	if err := s.StartControl(-1); err != nil {
		return err
	}
	lines := [][]string{{"vault", "create", "vault"}, {"vault", "create", "other"}, {"agent", "create", "agent"}, {"agent", "pin", "agent", "vault"}}
	for _, line := range lines {
		if _, err := s.CLI("", line...); err != nil {
			return err
		}
	}
	for _, c := range canaries {
		line := []string{"credential", "add", "--vault", "vault", "--name", c.name, "--secret-file", "-"}
		for _, host := range c.hosts {
			line = append(line, "--host", host)
		}
		switch {
		case c.query != "":
			line = append(line, "--inject", "query:"+c.query)
		case c.user != "":
			line = append(line, "--inject", "basic", "--auth", "basic", "--username", c.user)
		default:
			line = append(line, "--inject", "bearer")
		}
		if _, err := s.CLI(c.secret, line...); err != nil {
			return err
		}
	}
	if _, err := s.CLI("", "agent", "policy", "set", "agent", "--rule", "deny "+strings.Join([]string{boundHost, boundHTTP2}, ",")+" "+deniedPath); err != nil {
		return err
	}
	return w.startSandbox(s)
}

func (w *world) startSandbox(s *stage.Stage) error {
	flags := []string{"--upstream-ca", s.Path("ca.pem"), "--log-level", "error"}
	for _, host := range []string{boundHost, boundHTTP2, basicHost, "h2" + basicHost, queryHost, "h2" + queryHost, "a.wild.bound.test"} {
		flags = append(flags, led(host, w.bound)...)
	}
	for _, host := range strangers() {
		flags = append(flags, led(host, w.elsewhere)...)
	}
	command, err := s.Sandboxed("agent", flags, s.Self, "agent")
	if err != nil {
		return err
	}
	a, err := startAgent(s, s.WithNames(command))
	if err != nil {
		return err
	}
	w.stops = append(w.stops, a.stop)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.Roots) {
		return errors.New("the sandbox has no authorities")
	}
	proxy := strings.TrimPrefix(a.Proxy, "http://")
	viaProxy := func(ctx context.Context) (net.Conn, error) { return a.dial(ctx, proxy) }
	intercepted := door{"intercepted", func(ctx context.Context, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if net.ParseIP(host) == nil {
			host = "192.0.2.7" // wherever the sandbox's DNS leads to
		}
		return a.dial(ctx, net.JoinHostPort(host, port))
	}}
	w.target = &target{
		sallyport: true, credentials: canaries, roots: roots,
		doors: []door{intercepted, throughProxy(viaProxy)}, proxy: viaProxy,
		audit: func() ([]audited, error) { return auditOf(s) },
		store: func(host string) error {
			_, err := s.CLI("another-key-0123456789", "credential", "add", "--vault", "other", "--name", "key-"+strings.ToLower(rand.Text()), "--secret-file", "-", "--host", host, "--inject", "bearer")
			return err
		},
	}
	return nil
}

// led gives the flags that lead to an address for a name at each port.
func led(host, address string) (flags []string) {
	for _, port := range ports {
		flags = append(flags, "--connect-to", fmt.Sprintf("%s:%d:%s:%d", host, port, address, port))
	}
	return flags
}

func auditOf(s *stage.Stage) ([]audited, error) {
	text, err := s.CLI("", "audit", "list", "--limit", strconv.Itoa(1<<20), "-o", "json")
	if err != nil {
		return nil, err
	}
	var events []control.Event
	if err := json.Unmarshal([]byte(text), &events); err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	var list []audited
	for _, e := range events {
		list = append(list, audited{e.Kind, e.Host, e.Path, e.Decision, e.Reason})
	}
	return list, nil
}

// keptAuthority is the one in a folder, which is made if it isn't there: what other
// proxies are told to believe has to be there before them. Without a folder it is new.
func keptAuthority(dir string) (*authority, error) {
	if dir == "" {
		return newAuthority("Sallyport attack origins")
	}
	file := filepath.Join(dir, "ca.pem")
	if _, err := os.Stat(file); err == nil {
		return readAuthority(file)
	}
	a, err := newAuthority("Sallyport attack origins")
	if err != nil {
		return nil, err
	}
	return a, a.write(file)
}
