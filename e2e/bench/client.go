package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// route is how a client gets to the origin.
type route struct {
	Core    int      // to pin itself to, or -1
	Dial    []string // addresses, taken in turn
	Connect bool     // they are of a proxy that is asked to CONNECT
	Roots   string   // PEM file of the only authorities it believes, so that it sees who ended TLS
}

// job is a line of a client's input, outcome what it answers.
type job struct {
	Do          string // load, open, hold, drop, down, up
	Protocol    string // h1, h2 (many requests on a connection), grpc (many streams on a connection)
	Name        string // host to ask; its %d, if any, is another number each time
	Connections int    // or requests in flight on the one connection
	Requests    int
	Limit       time.Duration // begin nothing after it
	Want        string        // what the origin must have seen of the credential; empty to tell it in Seen
	Body        int64
}

type outcome struct {
	Error    string `json:",omitempty"`
	Requests int
	Elapsed  time.Duration
	P50, P99 time.Duration
	Seen     map[string][]int64 `json:",omitempty"` // when the requests began that gave each, of CLOCK_MONOTONIC
	Open     int                `json:",omitempty"` // connections held
}

// client asks as it is told.
type client struct {
	route
	config *tls.Config
	dialed int
	fresh  int
	kept   map[string][]*conn1 // by name
	h2     map[string]*http.Transport
	held   []*conn1
}

// clientRole does the jobs of its input. Its argument is its route.
func clientRole(args []string) error {
	c := &client{kept: map[string][]*conn1{}, h2: map[string]*http.Transport{}, fresh: os.Getpid() << 20}
	if err := json.Unmarshal([]byte(args[0]), &c.route); err != nil {
		return err
	}
	if err := pin(c.Core); err != nil {
		return err
	}
	pem, err := os.ReadFile(c.Roots)
	if err != nil {
		return err
	}
	c.config = &tls.Config{RootCAs: x509.NewCertPool()}
	c.config.RootCAs.AppendCertsFromPEM(pem)
	jobs, outcomes := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var j job
		if err := jobs.Decode(&j); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		result, err := c.do(j)
		if err != nil {
			result.Error = err.Error()
		}
		if err := outcomes.Encode(result); err != nil {
			return err
		}
	}
}

func (c *client) do(j job) (outcome, error) {
	switch j.Do {
	case "load":
		if j.Protocol == "h1" {
			return c.load1(j)
		}
		return c.load2(j)
	case "open":
		return c.openEach(j)
	case "hold":
		return c.hold(j)
	case "drop":
		for _, held := range c.held {
			held.Close()
		}
		c.held = nil
		return outcome{}, nil
	case "down", "up":
		return c.body(j)
	}
	return outcome{}, fmt.Errorf("there is no job %q", j.Do)
}

// dial connects to name by the route.
func (c *client) dial(name string, protocols ...string) (*tls.Conn, error) {
	address := c.Dial[c.dialed%len(c.Dial)]
	c.dialed++
	raw, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	if c.Connect {
		if err := connect(raw, name); err != nil {
			raw.Close()
			return nil, err
		}
	}
	config := c.config.Clone()
	config.ServerName, config.NextProtos = name, protocols
	conn := tls.Client(raw, config)
	if err := conn.Handshake(); err != nil {
		raw.Close()
		return nil, fmt.Errorf("handshake with %s: %w", name, err)
	}
	return conn, nil
}

// connect asks a proxy for a tunnel. Nothing comes after its answer before the
// client speaks, so the reader holds no more.
func connect(raw net.Conn, name string) error {
	if _, err := fmt.Fprintf(raw, "CONNECT %s:443 HTTP/1.1\r\nHost: %s:443\r\n\r\n", name, name); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReader(raw), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return fmt.Errorf("CONNECT: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("CONNECT: %s", response.Status)
	}
	return nil
}

// tally gathers what requests took. Each of its lanes belongs to one goroutine.
type tally struct {
	begun time.Time
	until time.Time
	lanes []lane
	each  int // requests a lane, at most
}

type lane struct {
	took []time.Duration
	seen map[string][]int64
}

func newTally(j job) *tally {
	t := &tally{begun: time.Now(), lanes: make([]lane, j.Connections), each: max(1, j.Requests/j.Connections)}
	t.until = t.begun.Add(j.Limit)
	return t
}

// repeat runs ask on each lane, at the same time.
func (t *tally) repeat(want string, ask func(lane int) (seen string, err error)) (outcome, error) {
	group, ctx := errgroup.WithContext(context.Background())
	for i := range t.lanes {
		l := &t.lanes[i]
		l.took, l.seen = make([]time.Duration, 0, t.each), map[string][]int64{}
		group.Go(func() error {
			for len(l.took) < t.each && ctx.Err() == nil {
				begun := time.Now()
				if begun.After(t.until) {
					return nil
				}
				if want == "" {
					clock := monotonic()
					saw, err := ask(i)
					if err != nil {
						return err
					}
					l.seen[saw] = append(l.seen[saw], clock)
				} else if saw, err := ask(i); err != nil {
					return err
				} else if saw != want {
					return fmt.Errorf("the origin saw %s, not %s", saw, want)
				}
				l.took = append(l.took, time.Since(begun))
			}
			return nil
		})
	}
	err := group.Wait()
	result := outcome{Elapsed: time.Since(t.begun), Seen: map[string][]int64{}}
	var took []time.Duration
	for _, l := range t.lanes {
		took = append(took, l.took...)
		for saw, times := range l.seen {
			result.Seen[saw] = append(result.Seen[saw], times...)
		}
	}
	if len(took) > 0 {
		slices.Sort(took)
		result.Requests, result.P50, result.P99 = len(took), took[len(took)/2], took[len(took)*99/100]
	}
	return result, err
}
