// Command upgrade runs two builds of the programs on one database, as they run while a
// control plane is upgraded, and fails when anything goes wrong:
//
//	upgrade OLD NEW
//
// OLD and NEW are folders of the three programs.
//
//	old sidecars ─┬─▶ old replica ─┬─▶ one database, whose tables the
//	              ╳                │   new replica has migrated
//	new sidecars ─┴─▶ new replica ─┘
//
// Every sidecar uses a credential all the while, from either replica. Each replica makes
// changes, rotates and revokes; the other and all sidecars follow. At last the old one
// ends, and the audit chain is verified.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "upgrade:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 1 && args[0] == "agent" {
		return agentRole()
	}
	if len(args) != 2 {
		return errors.New("usage: upgrade OLD NEW, two folders of the three programs")
	}
	if os.Getuid() != 0 {
		return errors.New("run as root: sandboxes are made")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	w, err := newWorld(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	before, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	now, err := filepath.Abs(args[1])
	if err != nil {
		return err
	}
	for _, s := range steps(w, before, now) {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Println("ok   " + s.name)
	}
	return nil
}

// step is a part of the upgrade.
type step struct {
	name string
	do   func() error
}

// steps are of a world with two builds.
func steps(w *world, before, now string) []step {
	var older, newer *replica
	var sandboxes []*sandbox
	each := func(do func(*sandbox) error) func() error {
		return func() (err error) {
			for _, s := range sandboxes {
				err = errors.Join(err, do(s))
			}
			return err
		}
	}
	starts := func(name, build string, at **replica) step {
		return step{name, func() (err error) { *at, err = w.serve(build); return err }}
	}
	enrols := func(name, build string, at **replica) step {
		return step{name, func() error {
			s, err := w.start(name, build, *at)
			sandboxes = append(sandboxes, s)
			if err != nil {
				return err
			}
			return w.uses(s)
		}}
	}
	rotates := func(name string, at **replica) step {
		return step{name, func() error {
			if err := w.rotate(*at); err != nil {
				return err
			}
			return each(w.uses)()
		}}
	}
	return []step{
		starts("the old replica starts", before, &older),
		{"the old replica is set up", func() error { return w.setUp(older) }},
		enrols("an old sidecar, old replica", before, &older),
		starts("the new replica starts beside it, and migrates the tables", now, &newer),
		{"the old sidecar goes on", each(w.uses)},
		enrols("another old sidecar, old replica", before, &older),
		enrols("an old sidecar, new replica", before, &newer),
		enrols("a new sidecar, old replica", now, &older),
		enrols("a new sidecar, new replica", now, &newer),
		rotates("the old replica rotates, and all sidecars follow", &older),
		rotates("the new replica rotates, and all sidecars follow", &newer),
		{"what the old replica changes the new one shows", func() error { return w.changes(older, newer, "older") }},
		{"what the new replica changes the old one shows", func() error { return w.changes(newer, older, "newer") }},
		{"the old replica revokes a sandbox of the new one", func() error { return w.revokes(older, sandboxes[2]) }},
		{"the new replica revokes a sandbox of the old one", func() error { return w.revokes(newer, sandboxes[1]) }},
		{"the others go on", func() error {
			sandboxes = append(sandboxes[:1], sandboxes[3:]...)
			return each(w.uses)()
		}},
		{"the old replica ends", func() error { older.process.Stop(); return nil }},
		{"sidecars of the old replica go on with what they hold", each(w.uses)},
		{"sandboxes end, and no request of them has failed", each(w.ends)},
		{"the audit chain holds, with an event of every sandbox", func() error { return w.audited(newer, sandboxes[len(sandboxes)-1]) }},
	}
}
