package supervise

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// agentFirstID is the uid and gid outside that the root of the first agent
	// has, where there is a choice: far from the ids of users.
	agentFirstID = 200000
	agentIDCount = 65536
	// maxSandboxes is how many sandboxes of root can have ids of their own at a time.
	maxSandboxes = 1024
	// claimsDir is where a file for each of them is locked.
	claimsDir = runDir + "/sallyport"
	// workerID is the uid and gid of the worker, where there is a choice.
	workerID = 65532
)

// idRange is Count ids from First.
type idRange struct{ First, Count int64 }

func (r idRange) contains(o idRange) bool {
	return r.First <= o.First && o.First+o.Count <= r.First+r.Count
}

// readIDMap gives the ids that exist in this process' user namespace, from
// /proc/self/uid_map or gid_map.
func readIDMap(path string) ([]idRange, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the ids of this user namespace: %w", err)
	}
	defer f.Close()
	return parseIDMap(bufio.NewScanner(f))
}

func parseIDMap(lines *bufio.Scanner) ([]idRange, error) {
	var have []idRange
	for lines.Scan() {
		var r idRange
		var outside int64
		if _, err := fmt.Sscan(strings.TrimSpace(lines.Text()), &r.First, &outside, &r.Count); err != nil {
			return nil, fmt.Errorf("read the ids of this user namespace: line %q: %w", lines.Text(), err)
		}
		have = append(have, r)
	}
	return have, lines.Err()
}

// claimIDs finds a number that no other sandbox of this machine has, the lowest
// one, and keeps it until the file is closed. Where nothing can be written, as in
// a read-only container with a sandbox to itself, everybody gets 0 and no file.
func claimIDs(dir string) (int64, *os.File, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return 0, nil, nil
	}
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
		return 0, nil, fmt.Errorf("%s must be a directory that only root may write to, for the ids of sandboxes", dir)
	}
	for n := range int64(maxSandboxes) {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("ids-%d", n)), os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return 0, nil, nil
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return n, f, nil
		}
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return 0, nil, fmt.Errorf("claim ids for the agent: lock %s: %w", f.Name(), err)
		}
	}
	return 0, nil, fmt.Errorf("%d sandboxes have the ids that there are for agents", maxSandboxes)
}

// agentRange chooses the ids of the n-th agent among those there are: the usual
// ones, else as many as there are beside root's and the worker's, else root's
// own (a rootless sandbox has no other).
func agentRange(have []idRange, n int64) idRange {
	usual := idRange{agentFirstID + n*agentIDCount, agentIDCount}
	best := idRange{0, 1}
	for _, r := range have {
		if r.contains(usual) {
			return usual
		}
		for _, free := range r.without(0) {
			for _, free := range free.without(workerID) {
				if free.Count > 0 && (best.First == 0 || free.Count > best.Count) {
					best = free
				}
			}
		}
	}
	best.Count = min(best.Count, agentIDCount)
	return best
}

// without splits r around id.
func (r idRange) without(id int64) []idRange {
	if !r.contains(idRange{id, 1}) {
		return []idRange{r}
	}
	return []idRange{{r.First, id - r.First}, {id + 1, r.First + r.Count - id - 1}}
}

// hasID reports whether an id exists in this user namespace.
func hasID(have []idRange, id int64) bool {
	for _, r := range have {
		if r.contains(idRange{id, 1}) {
			return true
		}
	}
	return false
}

// mapping makes r the ids from 0 of a new user namespace, or the one id there
// is the id inside.
func (r idRange) mapping(inside uint32) []syscall.SysProcIDMap {
	m := syscall.SysProcIDMap{HostID: int(r.First), Size: int(r.Count)}
	if r.Count == 1 {
		m.ContainerID = int(inside)
	}
	return []syscall.SysProcIDMap{m}
}
