package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sallyport/control"
)

var (
	mostChanges = flag.Int("changes", 6, "how many changes TestChanges makes")
	onlyChanges = flag.String("changes.only", "", "of those whose name has this in it")
	allAnswers  = flag.Bool("changes.strict", false, "also report requests that the control plane did not answer for within 5 seconds, as a busy machine has them")
)

// refusal is what a sidecar answers in the place of a service.
type refusal struct {
	status     int
	code, text string
	retry      bool // it says when to try again
}

func newRefusal(r *http.Response, text []byte) *refusal {
	return &refusal{r.StatusCode, r.Header.Get("Sallyport-Error"), string(text), r.Header.Get("Retry-After") != ""}
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s: %.300s", r.status, r.code, r.text) }

// late reports whether the control plane did not answer in time.
func (r *refusal) late() bool {
	switch r.code {
	case "credential_unavailable", "limit_unavailable", "approval_unavailable", "audit_unacknowledged":
		return r.status == http.StatusServiceUnavailable && r.retry
	}
	return r.code == "mint_unstored" && strings.Contains(r.text, "the control plane is away")
}

// lane is one credential, and what is known of its values.
type lane struct {
	kind
	*changing
	host string

	mu    sync.Mutex
	value int         // the newest
	turn  int         // of rotations
	when  map[int]int // the last turn that made a value the current one
	floor int         // the last turn that every sidecar is said to have
	taken func(value int) bool

	placeholder string // of what was minted last
	minted      time.Time
}

func (l *lane) latest() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.value
}

// takes reports whether the service knows a value.
func (l *lane) takes(value int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return value > 0 && (l.taken == nil || l.taken(value))
}

func (l *lane) take(taken func(value int) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = taken
}

// next makes a value the current one: a new one, or one of before.
func (l *lane) next(back bool) (value, turn int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn++
	if value = 1 + rand.N(max(l.value, 1)); !back {
		l.value++
		value = l.value
	}
	l.when[value] = l.turn
	return value, l.turn
}

func (l *lane) add() {
	value, turn := l.next(false)
	body := map[string]any{"name": l.name, "hosts": []string{l.host}, "secret": l.secret(value)}
	maps.Copy(body, l.body)
	l.Must(l.t, "POST", "vaults", map[string]any{"name": l.name}, nil)
	l.Must(l.t, "POST", "vaults/"+l.name+"/credentials", body, nil)
	l.Must(l.t, "PUT", "agents/a/pins/"+l.name, nil, nil)
	l.reached(turn)
}

func (l *lane) reached(turn int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.floor = max(l.floor, turn)
}

func (l *lane) path() string { return "vaults/" + l.name + "/credentials/" + l.name }

// rotate comes back when all have the value.
func (l *lane) rotate(back bool, overlap string) (value int) {
	value, turn := l.next(back && l.name != "refresh") // a refresh token is good once
	var r control.Rotation
	l.Must(l.t, "POST", l.path()+"/rotate?wait=30s", map[string]any{"secret": l.secret(value), "overlap": overlap}, &r)
	if r.Acknowledged < r.Connected {
		l.t.Errorf("%s: %d of %d have version %d after %d ms", l.name, r.Acknowledged, r.Connected, r.Version, r.Milliseconds)
		return value
	}
	if overlap == "" {
		l.reached(turn)
	}
	return value
}

// ask sends a request. Its error says what came instead of the service's answer, or
// that this saw another credential than it had to.
func (l *lane) ask(client *http.Client) error {
	l.mu.Lock()
	floor, placeholder := l.floor, l.placeholder
	if l.name == "minted" && time.Since(l.minted) > 10*time.Second {
		placeholder = ""
	}
	l.mu.Unlock()
	if l.name == "socket" {
		return l.open(client, floor)
	}
	method, path, content := http.MethodGet, "/", ""
	switch {
	case l.name == "minted" && placeholder == "":
		method, path, content = http.MethodPost, "/mint", "{}"
	case l.name != "minted" && l.name != "slow" && l.name != "sigv4" && rand.N(3) == 0: // a body that is held to be signed is not read twice
		method, content = http.MethodPost, strings.Repeat("x", rand.N(2000))
	}
	request, err := http.NewRequestWithContext(l.t.Context(), method, "https://"+l.host+path, strings.NewReader(content))
	if err != nil {
		return err
	}
	if placeholder != "" {
		request.Header.Set("Authorization", "Bearer "+placeholder)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return newRefusal(response, text)
	}
	if path == "/mint" {
		var made struct{ Key string }
		if err := json.Unmarshal(text, &made); err != nil || !strings.HasPrefix(made.Key, "vault:") {
			return fmt.Errorf("minted: %s", text)
		}
		l.mu.Lock()
		l.placeholder, l.minted = made.Key, time.Now()
		l.mu.Unlock()
	}
	if placeholder != "" {
		floor = 0 // what was minted outlives the value that it was minted with
	}
	return l.judge(response.Header.Get("Value"), floor)
}

func (l *lane) open(client *http.Client, floor int) error {
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	c, response, err := websocket.Dial(ctx, "wss://"+l.host+"/", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		if response != nil {
			text, _ := io.ReadAll(response.Body)
			return newRefusal(response, text)
		}
		return err
	}
	defer c.CloseNow()
	return l.judge(response.Header.Get("Value"), floor)
}

var errOld = errors.New("an old value")

func (l *lane) judge(said string, floor int) error {
	value, err := strconv.Atoi(said)
	if err != nil || value == 0 {
		return fmt.Errorf("it arrived with the value %q", said)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.when[value] < floor {
		return fmt.Errorf("%w: %d, which was current at turn %d, after turn %d had reached everybody", errOld, value, l.when[value], floor)
	}
	return nil
}

// tally counts what went wrong, by what was being changed.
type tally struct {
	now   atomic.Pointer[string]
	mu    sync.Mutex
	done  map[string]int // requests, by lane
	wrong map[string]int
	late  int
}

func (y *tally) count(l *lane, how string, begun string, err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.done[l.name]++
	if late := new(refusal); errors.As(err, &late) && late.late() && !*allAnswers {
		y.late++
	} else if err != nil {
		y.wrong[fmt.Sprintf("%s by %s, during %s and %s: %v", l.name, how, begun, *y.now.Load(), err)]++
	}
}

// TestChanges: requests that are permitted before a change and after it go on as if there
// were none, and those that begin when it has reached everybody go by it.
func TestChanges(t *testing.T) {
	c := newChanging(t)
	y := &tally{done: map[string]int{}, wrong: map[string]int{}}
	nothing := "nothing"
	y.now.Store(&nothing)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var agents sync.WaitGroup
	ways := []struct {
		how    string
		client *http.Client
	}{{"kept connections", c.client(false, true)}, {"new connections", c.client(false, false)}, {"HTTP/2", c.client(true, true)}}
	for _, l := range c.lanes {
		agents.Go(func() {
			for ctx.Err() == nil {
				way := ways[rand.N(len(ways))]
				if l.name == "socket" {
					way = ways[rand.N(2)]
				}
				begun := *y.now.Load()
				err := l.ask(way.client)
				if ctx.Err() == nil {
					y.count(l, way.how, begun, err)
				}
				pause := 100 * time.Millisecond
				if l.name == "each" {
					pause = time.Second
				}
				time.Sleep(rand.N(pause))
			}
		})
	}
	approving, decided := context.WithCancel(t.Context())
	var person sync.WaitGroup
	person.Go(func() { c.approve(approving) })

	changes := c.changes()
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(changes)), func(name string) bool { return !strings.Contains(name, *onlyChanges) })
	order := rand.Perm(len(names))
	for i := range *mostChanges {
		name := names[order[i%len(order)]]
		c.line.news.Store(int64(rand.N(time.Second)))
		y.now.Store(&name)
		began := time.Now()
		changes[name]()
		y.now.Store(&nothing)
		t.Logf("%s: %s", name, time.Since(began).Round(time.Millisecond))
		time.Sleep(rand.N(200 * time.Millisecond))
	}
	stop()
	agents.Wait()
	decided()
	person.Wait()
	c.takeAway()
	for i, way := range ways {
		for _, l := range c.lanes {
			if l.name == "socket" && i == 2 {
				continue
			}
			if err := l.ask(way.client); err == nil {
				t.Errorf("%s went out by %s with a credential that had been taken away", l.name, way.how)
			}
		}
	}
	t.Logf("requests: %v, of which the control plane did not answer for %d in time", y.done, y.late)
	for what, times := range y.wrong {
		t.Errorf("%d times %s", times, what)
	}
}

// approve approves all that waits.
func (c *changing) approve(ctx context.Context) {
	for ctx.Err() == nil {
		var page struct{ Items []control.Approval }
		c.Call(c.t, "GET", "approvals?limit=200", nil).Into(c.t, 200, &page)
		for _, a := range page.Items {
			// It may have been withdrawn meanwhile, or voided by a rotation.
			c.DoWith(c.t, c.Owner, "POST", c.Path("approvals", a.ID, "approve"), nil, http.Header{"If-Match": {a.Tag()}})
		}
		time.Sleep(20 * time.Millisecond)
	}
}
