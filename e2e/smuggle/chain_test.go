package smuggle_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"

	"sallyport/control/api"
	"sallyport/e2e/smuggle/vectors"
	"sallyport/sidecar/inject"
	"sallyport/sidecar/proxy"
	"sallyport/sidecar/redact"
	"sallyport/sidecar/strict"
)

// canary is the credential.
const canary = "canary-3f8a91c2d47b65e0"

// account is what the sidecar says of one request.
type account struct {
	proxy.Exchange
	vector    int
	forwarded bool // the request was made ready to go out
	seen      bool // its response says that an application saw it
	done      bool
}

// chain is the sidecar's way of an HTTP/1 request, without the sandbox around it.
type chain struct {
	*proxy.Server
	address string

	mu       sync.Mutex
	accounts []*account
	taps     []*tap
	vector   int // that is being sent
	running  int
	events   int // that anything happened
	faults   []string
}

var rules = []*api.Rule{{Place: &api.Rule_Header_{Header: &api.Rule_Header{Name: "X-Api-Key", Template: "{{token}}"}}}}

// newChain starts a sidecar whose every upstream is at address.
func newChain(t *testing.T, address string) *chain {
	t.Helper()
	c := &chain{}
	c.Server = proxy.New(proxy.Config{
		Facts:   func(net.Conn) proxy.Facts { return proxy.Facts{Port: 80} },
		Plan:    c.plan,
		Explain: func(*proxy.Exchange, error) *proxy.Error { return nil },
		Finish:  c.finish,
		Dial: func(ctx context.Context, host string, port uint16) (net.Conn, error) {
			if host != vectors.Host || port != 80 {
				c.fault("the sidecar dialled %s:%d", host, port)
			}
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			tapped := &tap{Conn: conn}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.taps = append(c.taps, tapped)
			return tapped, nil
		},
		Log: slog.New(slog.DiscardHandler),
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := c.Serve(ctx, strictListener{listener}); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); serving.Wait() })
	return c
}

// strictListener does what the sidecar's own does.
type strictListener struct{ net.Listener }

func (l strictListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return strict.NewConn(c, strict.Limits{}), nil
}

func (c *chain) fault(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, fmt.Sprintf("vector %d: ", c.vector)+fmt.Sprintf(format, args...))
}

func (c *chain) plan(_ context.Context, x *proxy.Exchange, _ *http.Request) (*proxy.Plan, error) {
	if x.Host != vectors.Host {
		return nil, proxy.Errorf(http.StatusForbidden, "no_such_host", "this test has no such host")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &account{Exchange: *x, vector: c.vector}
	c.accounts = append(c.accounts, a)
	c.running++
	c.events++
	material := api.Material{Token: []byte(canary)}
	redactor := redact.Compile(material, inject.Rendered(rules, material)).Redactor()
	return &proxy.Plan{
		Decision: proxy.Inject, Credential: "c", Version: 1,
		Interim: func(h http.Header) { redactor.Header(h) },
		Request: func(out *http.Request) error {
			inject.Clear(out, rules)
			redact.Request(out)
			out.Header.Set("X-Exchange", a.ID)
			c.mu.Lock()
			defer c.mu.Unlock()
			a.forwarded = true
			return inject.Apply(out, rules, material)
		},
		Response: func(response *http.Response) error {
			switch seen := response.Header.Get("X-Seen"); seen {
			case "":
			case a.ID:
				c.mu.Lock()
				defer c.mu.Unlock()
				a.seen = true
			default:
				c.fault("%s %s was given the response to %s", x.Method, x.Path, seen)
			}
			return redactor.Response(response)
		},
	}, nil
}

func (c *chain) finish(x *proxy.Exchange, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events++
	for _, a := range c.accounts[max(0, len(c.accounts)-64):] {
		if a.ID == x.ID {
			a.Exchange, a.done = *x, true
			c.running--
			return
		}
	}
	c.accounts = append(c.accounts, &account{Exchange: *x, vector: c.vector, done: true}) // refused before it was planned
}

// state says how many requests are under way and counts what has happened.
func (c *chain) state() (running, events int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running, c.events
}

// since gives the accounts of the requests made from the nth on.
func (c *chain) since(n int) []account {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []account
	for _, a := range c.accounts[n:] {
		all = append(all, *a)
	}
	return all
}
