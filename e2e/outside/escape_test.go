package outside

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/e2e"
	"sallyport/netsetup/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// all runs every attack, not the sample.
var all = flag.Bool("all", false, "run every attack, as every kind of agent")

// outcome is what the attacker says of an attack.
type outcome struct {
	Name, Result, Said, Payload string
	Micros                      int64
	Addresses                   []string
}

const (
	network = "sockets,datagrams,raw,frames"
	sealed  = "descriptors," + network + ",families,local,rules,processes,mounts,hidden,devices,calls,addresses"
)

// openName is a host that is allowed: that it can be asked shows which ways are open.
const openName = "open.attack.test"

// agents are those that try, in a sandbox.
func agents() []agent {
	return []agent{
		{name: "root in its sandbox", start: asRoot(0), groups: sealed},
		{name: "not root in its sandbox", start: asRoot(1000), groups: sealed, sampled: true},
		{name: "of a user without root", start: rootless, groups: sealed},
		{name: "root in a new user namespace", start: asRoot(0), groups: network + ",families,local,rules,mounts,hidden,devices,calls", within: "user"},
		{name: "root in a new network", start: asRoot(0), groups: network + ",families,local", within: "user+net"},
		{name: "owner of the network", start: asOwner, groups: network + ",rules", owner: true, sampled: true},
	}
}

// agent is one kind.
type agent struct {
	name    string
	start   func(t *testing.T, w *e2e.World, command ...string) *e2e.Program
	groups  string
	within  string // new namespaces that it makes itself
	owner   bool   // may change the network, which leads nowhere
	sampled bool   // is in the sample
}

func asRoot(uid int) func(*testing.T, *e2e.World, ...string) *e2e.Program {
	return func(t *testing.T, w *e2e.World, command ...string) *e2e.Program {
		return w.StartSidecar("agent", []string{"init", "--user", fmt.Sprint(uid)}, command...)
	}
}

func rootless(t *testing.T, w *e2e.World, command ...string) *e2e.Program {
	return w.AsOrdinaryUser().Start("agent", command...)
}

// asOwner is in a namespace that somebody else made and is the owner of, with every
// capability there: it may do what it likes to the rules.
func asOwner(t *testing.T, w *e2e.World, command ...string) *e2e.Program {
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{Size: 65536}}, GidMappings: []syscall.SysProcIDMap{{Size: 65536}},
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	pid := cmd.Process.Pid
	ca := filepath.Join(t.TempDir(), "ca.pem")
	w.StartSidecar("agent", []string{"attach", "--pid", fmt.Sprint(pid), "--ca-out", ca})
	w.Eventually("the namespace is sealed", func() bool { _, err := os.Stat(ca); return err == nil })
	target := fmt.Sprintf("/proc/%d/ns/", pid)
	return w.StartOutside(append([]string{"nsenter", "--user=" + target + "user", "--net=" + target + "net", "--setuid=0", "--setgid=0"}, command...)...)
}

// TestEscape has every kind of agent try every way out. None may succeed, and no frame
// may be seen outside.
func TestEscape(t *testing.T) {
	out := newWitness(t)
	w := e2e.NewWorld(t, e2e.Shipped)
	w.CLI("agent", "create", "agent")
	greet := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, greeting) })
	w.OriginServer(openName, greet, "http/1.1")
	w.PlainOriginServer(openName, greet)
	f := fixtures(t, w)

	var proven map[string]bool
	if !t.Run("outside", func(t *testing.T) { proven = prove(t, w.In(t), out, f) }) {
		return // what shows nothing is no use
	}
	for _, a := range agents() {
		if !a.sampled && !*all {
			continue
		}
		t.Run(a.name, func(t *testing.T) { a.try(t, w.In(t), out, f, proven) })
	}
}

// files are what attacks go for.
type files struct{ hidden, suid string }

func fixtures(t *testing.T, w *e2e.World) files {
	t.Helper()
	f := files{hidden: filepath.Join(w.Dir, "hidden"), suid: w.Client("set-user-id")}
	if err := os.WriteFile(f.hidden, []byte("everybody may read it, but for the sandbox"), 0o644); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(w.Client("attacker"))
	if err == nil {
		err = os.WriteFile(f.suid, program, 0o755)
	}
	if err == nil {
		err = os.Chmod(f.suid, 0o755|os.ModeSetuid)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// command is how the attacker is started. Its pids come by standard input, since there
// are none before it runs.
func command(w *e2e.World, out *witness, f files, groups string, more ...string) []string {
	if !*all {
		more = append(more, "-sample=8")
	}
	args := append([]string{w.Client("attacker"), "-groups=" + groups, "-hidden=" + f.hidden, "-suid=" + f.suid, "-socket=" + out.socket}, more...)
	return append([]string{"/bin/sh", "-c", `echo ready; read -r pids; exec "$@" $pids`, "sh"}, args...)
}

func pids(p *e2e.Program) string {
	worker := p.Worker()
	return fmt.Sprintf("-pid=init=%d -pid=worker=%d", e2e.Parent(worker), worker)
}

// collect reads the attacker's report to its end.
func collect(t *testing.T, p *e2e.Program) []outcome {
	t.Helper()
	var outcomes []outcome
	for line, ok := p.NextLine(); ok; line, ok = p.NextLine() {
		var o outcome
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("the attacker said %q", line)
		}
		outcomes = append(outcomes, o)
	}
	if status := p.Wait(); status != 0 || len(outcomes) == 0 {
		t.Fatalf("the attacker ended with status %d after %d attacks", status, len(outcomes))
	}
	return outcomes
}

// seen are the frames that an attack has to do with.
func (o outcome) seen(frames [][]byte) int {
	n := 0
	for _, frame := range frames {
		found := bytes.Contains(frame, []byte(strings.TrimSpace(o.Payload)))
		for _, address := range o.Addresses {
			found = found || bytes.Contains(frame, netip.MustParseAddr(address).AsSlice())
		}
		if found {
			n++
		}
	}
	return n
}

// prove makes the attacks outside, as root. What does not work there, or is not seen
// there, would show nothing in a sandbox.
func prove(t *testing.T, w *e2e.World, out *witness, f files) map[string]bool {
	inside := w.Start("agent", "sh", "-c", "echo ready; read -r line")
	inside.Line()
	defer inside.Stop()
	groups := "sockets,datagrams,raw,frames,families,local,processes,hidden,devices,calls"
	p := w.StartOutside(command(w, out, f, groups, "-control")...)
	p.Line() // it is ready
	p.Say(pids(inside))
	outcomes := collect(t, p)
	time.Sleep(100 * time.Millisecond) // the last frames may be on their way
	frames, _ := out.take()
	if n := out.drops(t); n > 0 {
		t.Fatalf("the tap lost %d frames", n)
	}
	proven := map[string]bool{}
	for _, o := range outcomes {
		proven[o.Name] = o.Result == "done" || o.seen(frames) > 0
		if !proven[o.Name] {
			t.Logf("shows nothing: %s: %s %s", o.Name, o.Result, o.Said)
		}
	}
	t.Logf("%d attacks, %d frames seen", len(outcomes), len(frames))
	// The kernel goes on asking for neighbours that there are none of, once a second.
	w.Eventually("nothing more is seen of it", func() bool {
		time.Sleep(1500 * time.Millisecond)
		frames, _ := out.take()
		return len(frames) == 0
	})
	return proven
}

// try has the agent make its attacks.
func (a agent) try(t *testing.T, w *e2e.World, out *witness, f files, proven map[string]bool) {
	before := out.visits.Load()
	out.take()
	args := command(w, out, f, a.groups)
	if a.within != "" {
		args = append(args, "-in="+a.within)
	}
	p := a.start(t, w, args...)
	p.Line() // it is ready
	if a.owner {
		p.Say("")
	} else {
		p.Say(pids(p))
	}
	outcomes := collect(t, p)
	time.Sleep(100 * time.Millisecond)
	frames, _ := out.take()
	if n := out.drops(t); n > 0 {
		t.Errorf("the tap lost %d frames", n)
	}
	attributed := 0
	var refusals []int64
	for _, o := range outcomes {
		seen := o.seen(frames)
		attributed += seen
		shown, tried := proven[o.Name]
		if tried && !shown {
			continue
		}
		if o.Result == "refused" {
			refusals = append(refusals, o.Micros)
		}
		if way, open := strings.CutSuffix(o.Name, " "+openName); open {
			t.Run(o.Name, func(t *testing.T) {
				if o.Result != "done" && !strings.Contains(way, "4444") && !strings.Contains(way, "odd") {
					t.Errorf("nothing can be asked this way: %s", o.Said)
				}
			})
			continue
		}
		t.Run(o.Name, func(t *testing.T) {
			if o.Result == "done" && !(a.owner && strings.HasPrefix(o.Name, "rules: ")) && a.within != "user+net" {
				t.Error("the attack succeeded")
			}
			if seen > 0 {
				t.Errorf("%d frames were seen outside", seen)
			}
		})
	}
	t.Run("nothing else is seen outside", func(t *testing.T) {
		if attributed < len(frames) {
			t.Errorf("%d frames outside, of which %d have a known cause: %x …", len(frames), attributed, frames[0])
		}
		if n := out.visits.Load() - before; n > 0 {
			t.Errorf("the listeners outside were visited %d times", n)
		}
	})
	slices.Sort(refusals)
	if n := len(refusals); n > 0 {
		t.Logf("%d attacks; refusals took %d µs at the median, %d at the 99th percentile, %d at most", len(outcomes), refusals[n/2], refusals[n*99/100], refusals[n-1])
	}
}
