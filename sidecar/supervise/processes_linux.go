package supervise

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A control group that bounds processes (pids.max, the kernel's
// Documentation/admin-guide/cgroup-v2.rst) has the sidecar in it too, and a Go program
// ends where it can't have a thread. So the agent gets a limit of its own, below that:
// these are the threads that it leaves to the sidecar, or half of what there is.
const (
	leastThreads = 48
	mostThreads  = 128
	ownThreads   = 16 // of these, for the sandbox's PID 1
)

// processBound is how many processes and threads the agent may have at once; 0 if nobody
// bounds those of this process.
func processBound() uint64 {
	most := groupBound("/proc/self/cgroup", "/sys/fs/cgroup")
	if most == 0 {
		return 0
	}
	reserve := min(max(most/4, leastThreads), mostThreads)
	return max(1, most-min(reserve, most/2))
}

// groupBound is the least pids.max of the control groups in a list, as of proc(5), and
// of those above them, as far as they can be seen; 0 for none.
func groupBound(list, mounted string) (most uint64) {
	f, err := os.Open(list)
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		root := mounted
		switch fields[1] {
		case "": // version 2
		case "pids":
			root += "/pids"
		default:
			continue
		}
		for at := path.Clean("/" + fields[2]); ; at = path.Dir(at) {
			text, _ := os.ReadFile(root + at + "/pids.max")
			if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil && (most == 0 || n < most) {
				most = n
			}
			if at == "/" {
				break
			}
		}
	}
	return most
}

// startBounded has start start the agent with no more processes than bound; 0 for any
// number. The kernel counts those of each of the agent's users in its user namespace. Where
// this process is not the machine's root the agent's count as its own too, so it may have
// some more than they.
func startBounded(bound uint64, start func() (*child, int, error)) (*child, int, error) {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &own); bound == 0 || err != nil || own.Cur <= bound {
		return start()
	}
	most := min(own.Max, bound+ownThreads)
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: bound, Max: most}); err != nil {
		return nil, ExitFailure, fmt.Errorf("bound the agent's processes: %w", err)
	}
	agent, status, err := start()
	if err == nil {
		err = unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: most, Max: most})
	}
	return agent, status, err
}
