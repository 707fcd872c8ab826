package netsetup

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Capabilities are what this machine allows to the calling process. Each is nil
// where it works, or what was said when it was tried.
type Capabilities struct {
	UserNamespace error // a user namespace that can own a network namespace
	NetNamespace  error // a network namespace of our own
	Veth          error // a veth pair with a default route
	IPv6          error // addresses in a new namespace
	NFTables      error // the rules, by nf_tables
	IPTables      error // the rules, by the iptables programs
	Redirect      error // a connection is seen intercepted, by the backend that Seal would choose
}

// All gives each capability under a name for people, in the order to read them.
func (c Capabilities) All() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		_ = yield("user namespaces", c.UserNamespace) &&
			yield("network namespaces", c.NetNamespace) &&
			yield("veth", c.Veth) &&
			yield("IPv6", c.IPv6) &&
			yield("nf_tables", c.NFTables) &&
			yield("iptables", c.IPTables) &&
			yield("redirect", c.Redirect)
	}
}

// Sealable is nil if Seal works here; the rest is then a matter of taste.
func (c Capabilities) Sealable() error { return c.Redirect }

// Detect finds out by trying, in namespaces that it throws away. A process
// without privilege can make a network namespace only inside a user namespace,
// so it learns the rest by calling Detect again from there.
func Detect(ctx context.Context) Capabilities {
	c := Capabilities{
		UserNamespace: tryUserNamespace(),
		NetNamespace:  try(func(*Namespace) error { return nil }),
	}
	if c.NetNamespace != nil {
		untried := fmt.Errorf("not tried: %w", c.NetNamespace)
		c.Veth, c.IPv6, c.NFTables, c.IPTables, c.Redirect = untried, untried, untried, untried, untried
		return c
	}
	c.Veth = try(func(n *Namespace) error { return n.connect(ctx) })
	c.IPv6 = try(func(n *Namespace) error {
		if err := n.connect(ctx); err == nil && !n.ipv6 {
			return errNoFamily
		}
		return nil // or it is not IPv6 that is missing
	})
	c.NFTables = try(func(n *Namespace) error { return n.loadRules(ctx, NFTables, defaultPorts) })
	c.IPTables = try(func(n *Namespace) error { return n.loadRules(ctx, IPTables, defaultPorts) })
	c.Redirect = tryProbe(ctx)
	return c
}

// try runs f on a bare namespace and throws that away.
func try(f func(*Namespace) error) error {
	ns, err := newNetNS()
	if err != nil {
		return err
	}
	n := newNamespace(ns)
	err = f(n)
	n.undo = nil // nothing is left to put back
	return errors.Join(err, n.Close())
}

// notAFile can't be run: the attempt gets as far as its user namespace allows.
const notAFile = "/dev/null/nothing"

func tryUserNamespace() error {
	cmd := exec.Cmd{Path: notAFile, SysProcAttr: &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}}
	err := cmd.Start()
	if errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		err = errno // without the name of what was not to run
	}
	return fmt.Errorf("make a user namespace that owns a network namespace: %w", err)
}

func tryProbe(ctx context.Context) error {
	n, err := Seal(ctx, Config{})
	if err != nil {
		return err
	}
	return errors.Join(n.Verify(ctx), n.Probe(ctx), n.Close())
}
