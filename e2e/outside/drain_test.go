package outside

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/e2e"
)

const (
	drainHost = "drain.attack.test"
	drainKey  = "drain-key-0123456789abcdef"
)

var kills = flag.Int("kills", 50, "with -all, how often the worker is killed in each mode of audit; other parts are killed in proportion")

// TestDrain kills what guards the credential while it is used. Nothing may be told,
// nothing go elsewhere, nothing be sent without a credential or without a recorded
// lease, and it must go on.
func TestDrain(t *testing.T) {
	out := newWitness(t)
	w := e2e.NewWorld(t, e2e.Shipped)
	d := &drain{out: out, world: w, w: w, u: newUpstream(w)}
	w.Pinned("agent", drainKey, "--host", drainHost, "--inject", "bearer")
	out.take()
	for _, c := range []struct {
		name string
		run  func(*drain, *testing.T)
	}{
		{"the worker is killed", func(d *drain, t *testing.T) { d.workerKilled(t, "best_effort") }},
		{"the worker is killed, audit is durable", func(d *drain, t *testing.T) { d.workerKilled(t, "durable") }},
		{"the worker is killed, audit is strict", func(d *drain, t *testing.T) { d.workerKilled(t, "strict") }},
		{"the control plane is killed", (*drain).controlKilled},
		{"the database is killed", (*drain).databaseKilled},
		{"the sandbox is revoked", (*drain).revoked},
		{"a join token is used by many at once", (*drain).tokenRaced},
		{"the sidecar is killed", (*drain).sidecarKilled},
		{"the sidecar is asked to end", (*drain).stopped},
		{"the control plane is away beyond the lease", (*drain).away},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.run(&drain{out: out, world: w, w: w.In(t), u: d.u}, t)
			if frames, _ := out.take(); len(frames) > 0 {
				t.Errorf("%d frames were seen outside: %x …", len(frames), frames[0])
			}
			if n := d.u.bare.Swap(nil); n != nil {
				t.Errorf("a request came without the credential: %s", *n)
			}
			d.chain(t)
		})
	}
}

// calm is a pause between requests that leaves the queue of events room for an outage.
const calm = 50 * time.Millisecond

// times is n, or fewer in the sample.
func times(n int) int {
	if *all {
		return n
	}
	return max(1, n/10)
}

// workerKilled loses no event: what was perhaps sent is told as such.
func (d *drain) workerKilled(t *testing.T, audit string) {
	d.w.CLI("team", "set", "--audit", audit)
	defer d.w.CLI("team", "set", "--audit", "best_effort")
	d.u.forget()
	p := d.load(time.Millisecond)
	sandbox := d.sandbox(t)
	n := times(*kills)
	var gaps []int64
	for range n {
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		worker := p.Worker()
		if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		d.w.Eventually("the worker is dead", func() bool { return !slices.Contains(e2e.Descendants(p.PID), worker) })
		before := parse(p.Ask("report"))
		got := d.report(p) // by the next worker
		if leaks := before.Leaks + got.Leaks; leaks > 0 {
			t.Errorf("%d answers held the secret", leaks)
		}
		for what := range got.Failed {
			if what != "connection" && what != "503" && what != "502" {
				t.Errorf("requests were answered with %s", what)
			}
		}
		gaps = append(gaps, got.Longest)
	}
	p.Stop()
	slices.Sort(gaps)
	injected, lost := d.recorded(t, sandbox)
	if lost > 0 {
		t.Errorf("of %d requests with the credential %d have no event", injected, lost)
	}
	unknown := strings.TrimSpace(d.sql(t, `select count(*) from audit_events where sandbox = '`+sandbox+`' and reason = 'outcome_unknown'`))
	if twice := strings.TrimSpace(d.sql(t, `select count(*) - count(distinct request_id) from audit_events where kind = 'request' and decision = 'inject' and reason <> 'intent' and sandbox = '`+sandbox+`'`)); twice != "0" {
		t.Errorf("%s requests have two events", twice)
	}
	t.Logf("%d kills: the longest wait for an answer was %d ms at the median, %d in 99 of 100, %d at most; each of %d requests with the credential has an event, %s of unknown outcome", n, gaps[n/2], gaps[n*99/100], gaps[n-1], injected, unknown)
}

// recorded counts what came upstream with the credential, and how much of it has no
// event of the sandbox. Every event must name a lease that was recorded when it was
// granted, and there must be one lease for each worker that used it.
func (d *drain) recorded(t *testing.T, sandbox string) (injected, lost int) {
	t.Helper()
	events := map[string]bool{}
	for line := range strings.Lines(d.sql(t, `select path from audit_events where kind = 'request' and decision = 'inject' and sandbox = '`+sandbox+`'`)) {
		events[strings.TrimSpace(line)] = true
	}
	if orphans := strings.TrimSpace(d.sql(t, `select count(*) from audit_events r where kind = 'request' and decision = 'inject' and sandbox = '`+sandbox+`'
		and not exists (select from audit_events g where g.kind = 'grant' and g.lease = r.lease and g.sandbox = r.sandbox)`)); orphans != "0" {
		t.Errorf("%s events name a lease that was never granted", orphans)
	}
	for _, path := range d.u.paths() {
		injected++
		if !events[path] {
			lost++
		}
	}
	if injected == 0 || len(events) == 0 {
		t.Errorf("%d requests with the credential and %d events: nothing is shown", injected, len(events))
	}
	return injected, lost
}

func (d *drain) controlKilled(t *testing.T) {
	d.u.forget()
	p := d.load(calm)
	sandbox := d.sandbox(t)
	n := times(*kills / 5)
	var longest int64
	for range n {
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		d.world.KillControl()
		longest = max(longest, d.unharmed(t, p))
		d.world.StartControl()
		longest = max(longest, d.unharmed(t, p))
	}
	d.connected(t, sandbox)
	p.Stop()
	if injected, lost := d.recorded(t, sandbox); lost > 0 {
		t.Errorf("of %d requests with the credential %d have no event", injected, lost)
	} else {
		t.Logf("%d kills: %d requests with the credential, an event for each; the longest wait was %d ms", n, injected, longest)
	}
}

func (d *drain) databaseKilled(t *testing.T) {
	d.u.forget()
	p := d.load(calm)
	sandbox := d.sandbox(t)
	n := times(max(1, *kills/16))
	for range n {
		dir := filepath.Dir(d.socket(t))
		pid := postmaster(t, dir)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		d.unharmed(t, p)
		d.w.Eventually("there is another database", func() bool { now := postmaster(t, dir); return now != 0 && now != pid })
		d.w.AwaitControl()
		d.w.Eventually("the control plane works", func() bool { return d.w.TryCLI("", "agent", "list").Status == 0 })
	}
	d.connected(t, sandbox)
	p.Stop()
	if injected, lost := d.recorded(t, sandbox); lost > 0 {
		t.Errorf("of %d requests with the credential %d have no event", injected, lost)
	} else {
		t.Logf("%d kills: %d requests with the credential, an event for each", n, injected)
	}
}

// postmaster is the pid of the first process of the database in dir, 0 if there is none.
func postmaster(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, _ := strconv.Atoi(first) // it may be being written
	return pid
}

func (d *drain) revoked(t *testing.T) {
	var waits []int64
	for range times(5) {
		d.u.forget()
		p := d.load(calm)
		sandbox := d.sandbox(t)
		d.w.CLI("sandbox", "rm", sandbox)
		answered := time.Now()
		var got loaded
		d.w.Eventually("requests are refused", func() bool { got = parse(p.Ask("report")); return got.OK == 0 && got.Attempts > 4 })
		count := len(d.u.paths())
		for range 3 {
			if got := parse(p.Ask("report")); got.OK > 0 {
				t.Errorf("%d requests were answered after others were refused", got.OK)
			}
			time.Sleep(20 * time.Millisecond)
		}
		if now := len(d.u.paths()); now > count {
			t.Errorf("%d requests came upstream after others were refused", now-count)
		}
		waits = append(waits, max(0, d.u.last().Sub(answered).Milliseconds()))
		p.Stop()
	}
	t.Logf("requests still came for %d ms after the call had answered", waits)
}

func (d *drain) tokenRaced(t *testing.T) {
	const racers = 8
	token := d.w.CLI("sandbox", "create", "--agent", "agent")
	var ran sync.Map
	var racing sync.WaitGroup
	for i := range racers {
		file := filepath.Join(d.w.Dir, fmt.Sprint("raced-", i))
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(d.w.Program("sallyport-sidecar"), "init", "--control", d.w.SidecarURL, "--join-token-file", file, "--", "echo", "joined")
		racing.Go(func() {
			output, err := cmd.Output()
			if err == nil || strings.Contains(string(output), "joined") {
				ran.Store(i, true)
			}
		})
	}
	racing.Wait()
	n := 0
	ran.Range(func(any, any) bool { n++; return true })
	if n > 1 {
		t.Errorf("%d sandboxes ran by one token", n)
	}
	if list := d.w.CLI("sandbox", "list"); !strings.Contains(list, "locked") {
		t.Errorf("the sandbox was not locked:\n%s", list)
	}
}

func (d *drain) sidecarKilled(t *testing.T) {
	for range times(10) {
		p := d.load(calm)
		worker := p.Worker()
		below := e2e.Descendants(p.PID)
		if err := syscall.Kill(e2e.Parent(worker), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		d.w.Eventually("nothing of the sandbox is left", func() bool {
			return !slices.ContainsFunc(below, e2e.Running)
		})
		p.Wait()
	}
}

// stopped asks the sandbox to end while it is loaded: what was under way ends, and
// everything is recorded.
func (d *drain) stopped(t *testing.T) {
	for range times(10) {
		d.u.forget()
		p := d.load(calm)
		sandbox := d.sandbox(t)
		p.Signal(syscall.SIGTERM)
		p.Wait()
		if injected, lost := d.recorded(t, sandbox); lost > 0 {
			t.Errorf("of %d requests with the credential %d have no event", injected, lost)
		}
	}
}

// away has leases end after seconds, by the database's own word, and the control plane
// away for longer.
func (d *drain) away(t *testing.T) {
	d.sql(t, `create function brief() returns trigger language plpgsql as 'begin new.hard_expiry := now() + interval ''3 s''; new.fresh_until := now() + interval ''1 s''; return new; end'`)
	d.sql(t, `create trigger brief before insert on leases for each row execute function brief()`)
	p := d.load(calm)
	sandbox := d.sandbox(t)
	d.world.KillControl()
	var got loaded
	d.w.Eventually("requests are refused", func() bool { got = parse(p.Ask("report")); return got.OK == 0 && got.Attempts > 4 })
	count := len(d.u.paths())
	refused := 0
	for range 10 {
		got := parse(p.Ask("report"))
		refused += got.Attempts
		if got.OK > 0 || got.Leaks > 0 {
			t.Errorf("of %d attempts %d were answered beyond the lease", got.Attempts, got.OK)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if now := len(d.u.paths()); now > count {
		t.Errorf("%d requests came upstream beyond the lease", now-count)
	}
	begin := time.Now()
	d.world.StartControl()
	d.report(p)
	d.connected(t, sandbox)
	t.Logf("%d attempts beyond the lease, all refused (%v); served again %d ms after the control plane's start", refused, got.Failed, time.Since(begin).Milliseconds())
	p.Stop()
	d.sql(t, `drop trigger brief on leases`)
}
