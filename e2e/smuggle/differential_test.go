package smuggle_test

import (
	"flag"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"sallyport/e2e/smuggle/vectors"
)

// tally is what became of the vectors at one origin.
type tally struct {
	vectors   int
	requests  int // forwarded
	seen      int // by the application
	own       int // answered by the origin itself, which found them wrong or its own business
	broken    int // that ended early, by either side
	refused   int // vectors of which nothing was forwarded
	took      time.Duration
	connected int
}

var all = flag.Bool("all", false, "send every vector to every origin")

// third is how the vectors are shared out: a vector is sent to every third origin, and
// an origin is sent every third vector.
const third = 3

// share gives the vectors for an origin, which are some of each group.
func share(t *testing.T, origin int) []vectors.Vector {
	every := vectors.All()
	if *all {
		return every
	}
	groups, chosen := map[string]bool{}, map[string]bool{}
	var some []vectors.Vector
	for _, v := range every {
		groups[v.Group] = true
		if v.Number%third == origin%third {
			chosen[v.Group] = true
			some = append(some, v)
		}
	}
	if len(chosen) < len(groups) {
		t.Errorf("origin %d gets vectors of %d groups of %d", origin, len(chosen), len(groups))
	}
	return some
}

// TestOneReading sends the vectors to the origins, over upstream connections
// that are kept and over new ones. What the sidecar records, what it writes
// upstream and what the application sees must be the same requests, each with
// one credential; a response must be for the request it is given to.
func TestOneReading(t *testing.T) {
	var mu sync.Mutex
	results := map[string]tally{}
	// All at once: t.Parallel would run as few as there are processors, and most
	// of a run is waiting.
	var origins sync.WaitGroup
	for i, s := range servers() {
		origins.Go(func() {
			t.Run(s.name, func(t *testing.T) {
				said := share(t, i)
				o := s.start(t)
				var modes sync.WaitGroup
				for _, keep := range []bool{true, false} {
					c := newChain(t, o.address)
					modes.Go(func() {
						n := c.tell(t, o, said, keep)
						mu.Lock()
						defer mu.Unlock()
						results[fmt.Sprintf("%s\t%v", o.name, keep)] = n
					})
				}
				modes.Wait()
				o.compare(t)
			})
		})
	}
	origins.Wait()
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "origin\tkept\tvectors\trefused\trequests\tseen\tits own answer\tbroken off\tconnections\ttime")
	for _, s := range servers() {
		for _, keep := range []bool{true, false} {
			name := fmt.Sprintf("%s\t%v", s.name, keep)
			n := results[name]
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.1fs\n", name, n.vectors, n.refused, n.requests, n.seen, n.own, n.broken, n.connected, n.took.Seconds())
			if keep && n.connected > n.requests/3 {
				t.Errorf("%s: %d requests took %d connections: they are not kept", s.name, n.requests, n.connected)
			}
			if n.seen*10 < n.requests*6 {
				t.Errorf("%s saw only %d of %d requests: it does not work as it should", s.name, n.seen, n.requests)
			}
		}
	}
	w.Flush()
	t.Logf("\n%s", table.String())
}

// tell sends vectors, one after the other, and checks what comes back.
func (c *chain) tell(t *testing.T, o *origin, said []vectors.Vector, keep bool) tally {
	n := tally{vectors: len(said)}
	begin := time.Now()
	for _, v := range said {
		c.mu.Lock()
		c.vector = v.Number
		before := len(c.accounts)
		c.mu.Unlock()
		text := v.Text
		if keep {
			text += fmt.Sprintf("GET /p%04d HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", v.Number, vectors.Host)
		}
		answer, err := c.say(text, v)
		if err != nil {
			c.fault("%s: %v", v, err)
		}
		accounts := c.since(before)
		c.checkVector(v, accounts, answer)
		if !slices.ContainsFunc(accounts, func(a account) bool { return a.forwarded && !strings.HasPrefix(a.Path, "/p") }) {
			n.refused++
		}
		if !keep {
			c.Keep(nil)
			c.Keep(map[string]uint64{"c": 1})
		}
	}
	n.took = time.Since(begin)
	for _, a := range c.since(0) {
		if !a.forwarded {
			continue
		}
		n.requests++
		switch {
		case a.seen:
			n.seen++
		case a.Reason != "":
			n.broken++
		default:
			n.own++
		}
	}
	c.mu.Lock()
	n.connected = len(c.taps)
	faults := c.faults
	c.mu.Unlock()
	o.claim(c)
	for i, fault := range faults {
		if i == 20 {
			t.Errorf("%s: and %d more", o.name, len(faults)-i)
			break
		}
		t.Errorf("%s, kept %v: %s", o.name, keep, fault)
	}
	return n
}

const (
	// quiet is how long nothing happens before the client says that it has no more.
	quiet = 10 * time.Millisecond
	// stalled is the same while a request is under way, which may wait for more of it.
	stalled = 200 * time.Millisecond
	// hung is when a connection should long have ended.
	hung = 10 * time.Second
)

// say sends text over a connection of its own and gives all that comes back.
func (c *chain) say(text string, v vectors.Vector) ([]byte, error) {
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(hung)); err != nil {
		return nil, err
	}
	var answer []byte
	ended := make(chan error, 1)
	go func() {
		var err error
		answer, err = io.ReadAll(conn)
		ended <- err
	}()
	_, events := c.state()
	begun := events
	// The sidecar may refuse and close before it has read all.
	_, _ = io.WriteString(conn, text)
	since := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for said := false; ; {
		select {
		case err := <-ended:
			if err != nil && len(answer) == 0 && !strings.Contains(err.Error(), "reset") {
				return nil, err
			}
			return answer, nil
		case <-tick.C:
		}
		running, now := c.state()
		if now != events {
			events, since = now, time.Now()
		}
		var bound time.Duration
		switch {
		case v.Want == vectors.Accept && events-begun < 2*v.Requests:
			bound = hung // it must be answered
		case running > 0:
			bound = stalled
		case v.Want != vectors.Accept:
			bound = quiet
		}
		if !said && time.Since(since) > bound {
			said = true
			_ = conn.(*net.TCPConn).CloseWrite() // it may be closed already
		}
	}
}

// token finds whose request a target is.
var token = regexp.MustCompile(`[vps]\d{4}`)

// checkVector holds what the sidecar made of a vector against what it says.
func (c *chain) checkVector(v vectors.Vector, accounts []account, answer []byte) {
	var methods []string
	whole := 0
	for _, a := range accounts {
		methods = append(methods, a.Method)
		mark := token.FindString(a.Path)
		switch {
		case !a.done:
			c.fault("%s: the record of %s %s is not complete", v, a.Method, a.Path)
		case mark == fmt.Sprintf("%s%04d", vectors.Hidden, v.Number) && v.Want != vectors.Either:
			c.fault("%s: what is no request became one", v)
		case v.Want == vectors.Refuse && a.forwarded && a.Reason == "":
			c.fault("%s: %s %s was forwarded as if it were whole", v, a.Method, a.Path)
		case v.Want == vectors.Accept && !a.forwarded:
			c.fault("%s: %s %s was refused: %s", v, a.Method, a.Path, a.Reason)
		}
		if a.forwarded && mark != fmt.Sprintf("p%04d", v.Number) {
			whole++
		}
	}
	if v.Want == vectors.Accept && whole != v.Requests {
		c.fault("%s: %d requests were forwarded, want %d", v, whole, v.Requests)
	}
	// One more answer may be the strict reader's, which ends the connection.
	answers, rest, err := readAnswers(answer, append(methods, "GET"))
	if err != nil || len(rest) > 0 {
		c.fault("%s: the answer %q: %v, and then %q", v, answer, err, rest)
	}
	for i, got := range answers {
		if got.seen != "" && (i >= len(accounts) || got.seen != accounts[i].ID) {
			c.fault("%s: answer %d is for another request", v, i)
		}
	}
}
