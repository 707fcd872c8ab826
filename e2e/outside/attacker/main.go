// Command attacker tries the ways out of a sandbox, from within, and says in a line of
// JSON what came of each. It is one static program, so it runs in every sandbox.
//
// What it says of itself is half of the story: it can't know whether what it sent got
// anywhere. So every attack that sends has destinations of its own, and a payload that
// names it, for whoever listens outside.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "attacker:", err)
		os.Exit(1)
	}
}

// attack is one way out. It gives nil when it did all it wanted, errSent when it sent
// something and nobody answered, and else why it could not.
type attack struct {
	name string
	run  func(a *attack) error
}

// errSent is what an attack gives that can't tell whether it succeeded.
var errSent = errors.New("sent")

// Outcome is what is printed of an attack.
type Outcome struct {
	Name      string
	Result    string   // done, sent, absent (this kernel does not have it), or refused
	Said      string   // the error
	Micros    int64    // how long it took
	Addresses []string // the destinations that are its own
	Payload   string   // what it sends
}

// settings are the flags.
type settings struct {
	pids    map[string]int // processes outside, by what they are
	hidden  string         // a file outside that the sandbox must not read
	socket  string         // path of a Unix socket outside; there is an abstract one of that name
	suid    string         // this program, owned by root and set-user-ID
	control bool           // this is outside: leave out what would harm the machine
}

func run(args []string) error {
	inherited, err := descriptors()
	if err != nil {
		return err
	}
	s := settings{pids: map[string]int{}}
	flags := flag.NewFlagSet("attacker", flag.ContinueOnError)
	chosen := flags.String("groups", "", "groups of attacks, by commas")
	only := flags.String("run", "", "only the attacks whose names match the regular expression")
	sample := flags.Int("sample", 1, "only one attack of so many")
	within := flags.String("in", "", "try them in new namespaces: user, or user+net")
	flags.Func("pid", "WHAT=N: a process outside", func(text string) error {
		var pid int
		what, number, _ := strings.Cut(text, "=")
		_, err := fmt.Sscan(number, &pid)
		s.pids[what] = pid
		return err
	})
	flags.StringVar(&s.hidden, "hidden", "", "a file outside")
	flags.StringVar(&s.socket, "socket", "", "a Unix socket outside")
	flags.StringVar(&s.suid, "suid", "", "a set-user-ID copy of this program")
	flags.BoolVar(&s.control, "control", false, "this runs outside")
	identity := flags.Bool("identity", false, "print the effective user ID and end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *identity {
		fmt.Println(os.Geteuid())
		return nil
	}
	if *within != "" {
		return enter(*within, args)
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	groups := map[string]func(settings) []attack{
		"sockets": sockets, "datagrams": datagrams, "raw": raw, "frames": frames, "families": families, "local": local,
		"rules": rules, "processes": processes, "mounts": mounts, "hidden": hidden, "devices": devices, "calls": calls, "addresses": addresses,
		"descriptors": func(settings) []attack { return inherited },
	}
	out := json.NewEncoder(os.Stdout)
	for name := range strings.SplitSeq(*chosen, ",") {
		group := groups[name]
		if group == nil {
			return fmt.Errorf("there is no group %q", name)
		}
		for _, a := range group(s) {
			a.name = name + ": " + a.name
			if sum := a.sum(); !pattern.MatchString(a.name) || int(sum[7])%*sample != 0 {
				continue
			}
			if err := out.Encode(a.outcome()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *attack) outcome() Outcome {
	begin := time.Now()
	err := a.run(a)
	o := Outcome{Name: a.name, Micros: time.Since(begin).Microseconds(), Payload: a.payload()}
	for _, address := range []netip.Addr{a.four(), a.six()} {
		o.Addresses = append(o.Addresses, address.String())
	}
	absent := []error{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.ESOCKTNOSUPPORT, unix.ENODEV, unix.ENOSYS, unix.EOPNOTSUPP, exec.ErrNotFound}
	switch {
	case err == nil:
		o.Result = "done"
	case errors.Is(err, errSent):
		o.Result = "sent"
	case slices.ContainsFunc(absent, func(target error) bool { return errors.Is(err, target) }):
		o.Result, o.Said = "absent", err.Error()
	default:
		o.Result, o.Said = "refused", err.Error()
	}
	return o
}

// payload is what the attack sends.
func (a *attack) payload() string { return "let me out: " + a.name + ".\n" }

// four and six are destinations that no other attack has.
func (a *attack) four() netip.Addr {
	sum := a.sum()
	return netip.AddrFrom4([4]byte{45, sum[0], sum[1], sum[2] | 1})
}

func (a *attack) six() netip.Addr {
	sum := a.sum()
	b := [16]byte{0x2a, 0x00, 0x45, 0x45}
	copy(b[8:], sum[:])
	return netip.AddrFrom16(b)
}

func (a *attack) sum() [8]byte {
	hash := fnv.New64a()
	hash.Write([]byte(a.name))
	return [8]byte(hash.Sum(nil))
}

// enter runs this program again in new namespaces, with every capability there.
func enter(kinds string, args []string) error {
	cmd := exec.Command("/proc/self/exe", slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return arg == "-in="+kinds })...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	if kinds == "user+net" {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWNET
	}
	return cmd.Run()
}
