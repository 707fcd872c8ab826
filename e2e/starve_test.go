package e2e_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/e2e"
)

// crowd asks 150 times, 50 at once, before asking does.
const crowd = `	[ "$path" != /crowd ] || seq 150 | xargs -P 50 -I{} curl -s -o /dev/null -m 20 "https://` + e2e.EchoHost + `/crowd/{}" 2>/dev/null
`

// TestStarvedAndFrozen: what is stopped for a while, as in a snapshot, or has no descriptors
// or memory left, takes nobody with it, prints nothing of its memory when it dies, and
// goes on with what is true then.
func TestStarvedAndFrozen(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.Pinned("agent", oldKey, "--host", e2e.EchoHost, "--inject", "bearer")
	agent := w.Start("agent", "bash", "-c", strings.Replace(asking, "do\n", "do\n"+crowd, 1))
	s := &starving{t, w, agent}
	s.ask("/before")
	s.frozenControl()
	s.frozenWorker()
	s.starvedWorker()
	s.starvedControl()
	agent.Stop()
	s.silent(agent.Output())
}

type starving struct {
	t     *testing.T
	w     *e2e.World
	agent *e2e.Program
}

func (s *starving) ask(path string) {
	s.t.Helper()
	if got := s.agent.Ask(path); got != "200 " {
		s.t.Errorf("%s: curl got %s", path, got)
	}
}

// frozenControl: leases serve meanwhile, also without init or a descriptor for a moment.
func (s *starving) frozenControl() {
	thaw := s.w.Freeze(s.w.ControlPID())
	s.ask("/leased")
	worker := s.agent.Worker()
	thawInit := s.w.Freeze(e2e.Parent(worker))
	s.ask("/without-init")
	thawInit()

	more := s.w.NoDescriptors(worker)
	s.agent.Say("/waits")
	s.w.Eventually("the worker wants a descriptor", func() bool { return strings.Contains(s.agent.Output(), "accept failed") })
	more()
	if got := s.agent.Line(); got != "200 " || s.agent.Worker() != worker {
		s.t.Errorf("who has waited for a descriptor got %s", got)
	}
	s.w.Eventually("the sidecar has noticed that nobody answers", func() bool { return strings.Contains(s.agent.Output(), "lost the control plane") })
	s.ask("/leased-still")
	thaw()
}

// frozenWorker: it hears what was changed meanwhile.
func (s *starving) frozenWorker() {
	thaw := s.w.Freeze(s.agent.Worker())
	s.w.CLI("agent", "unpin", "agent", "agent")
	s.agent.Say("/unpinned-meanwhile")
	thaw()
	s.agent.Line() // it may have been read before the news
	for n := 0; ; n++ {
		path := fmt.Sprintf("/unpinned-%dx", n)
		s.ask(path)
		if seen := s.w.Nginx.Seen(path); len(seen) == 1 && seen[0].Authorization == "" {
			break
		}
		if n > 200 {
			s.t.Fatal("the worker goes on with what was true before it was stopped")
		}
	}
	s.w.CLI("agent", "pin", "agent", "agent")
}

// starvedWorker: without memory it dies, and the next serves.
func (s *starving) starvedWorker() {
	first := s.agent.Worker()
	s.w.NoMemory(first)
	s.w.Eventually("the worker has died for want of memory, and another is there", func() bool {
		s.agent.Ask("/crowd") // refused, or answered by the next one
		next := s.agent.FindWorker()
		return next != 0 && next != first
	})
	s.w.Eventually("the next worker serves", func() bool { return s.agent.Ask("/after") == "200 " })
}

// starvedControl: whoever connects waits for a descriptor. Without memory it dies; leases
// go on, and the next start finds all in order.
func (s *starving) starvedControl() {
	more := s.w.NoDescriptors(s.w.ControlPID())
	listed := s.w.StartCLI("vault", "list")
	time.Sleep(100 * time.Millisecond) // it has begun to wait, or else the test shows less
	more()
	if status := listed.Wait(); status != 0 {
		s.t.Errorf("who has waited for a descriptor: exit status %d", status)
	}

	s.w.NoMemory(s.w.ControlPID())
	s.w.Eventually("the control plane has died for want of memory", func() bool { return !s.w.Answers() })
	s.silent(s.w.AwaitControlDeath())
	s.ask("/leased-again")
	s.w.StartControl()
	s.w.CLIReading(newKey, "credential", "rotate", "--vault", "agent", "agent", "--secret-file", "-", "--wait")
	s.w.Eventually("the next request has what was rotated", func() bool {
		path := fmt.Sprintf("/rotated-%dx", time.Now().UnixNano())
		s.ask(path)
		return strings.Contains(s.w.Nginx.Seen(path)[0].Authorization, newKey)
	})
	if got := s.w.TryCLI("", "audit", "verify"); got.Status != 0 {
		s.t.Errorf("then the audit is %s%s", got.Stdout, got.Stderr)
	}
}

// silent fails the test if a log shows a trace of the Go runtime, or a part of a secret.
func (s *starving) silent(log string) {
	s.t.Helper()
	if strings.Contains(log, "goroutine ") || strings.Contains(log, "PC=") {
		s.t.Errorf("a crash printed a trace:\n%s", log)
	}
	for _, secret := range []string{oldKey, newKey} {
		for i := range len(secret) - 7 {
			word := fmt.Sprintf("%x", binary.NativeEndian.Uint64([]byte(secret[i:])))
			if strings.Contains(log, secret[i:i+8]) || strings.Contains(log, word) {
				s.t.Fatal("a crash printed a part of a secret")
			}
		}
	}
}
