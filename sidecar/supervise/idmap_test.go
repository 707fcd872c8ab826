package supervise

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAgentRange(t *testing.T) {
	for _, test := range []struct {
		name, idMap string
		n           int64
		want        idRange
	}{
		{"root of the machine", "0 0 4294967295\n", 0, idRange{agentFirstID, agentIDCount}},
		{"third of the machine", "0 0 4294967295\n", 2, idRange{agentFirstID + 2*agentIDCount, agentIDCount}},
		{"last of the machine", "0 0 4294967295\n", maxSandboxes - 1, idRange{agentFirstID + (maxSandboxes-1)*agentIDCount, agentIDCount}},
		{"container with a range", "0 100000 65536\n", 0, idRange{1, workerID - 1}},
		{"container with two ranges", "         0       1000          1\n         1     100000      65536\n", 0, idRange{1, workerID - 1}},
		{"container with many", "0 1000000 300000\n", 0, idRange{agentFirstID, agentIDCount}},
		{"just beside the usual ones", "0 0 250000\n", 0, idRange{workerID + 1, agentIDCount}},
		{"few", "0 100000 10\n", 0, idRange{1, 9}},
		{"rootless", "0 1000 1\n", 0, idRange{0, 1}},
	} {
		have, err := parseIDMap(bufio.NewScanner(strings.NewReader(test.idMap)))
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if got := agentRange(have, test.n); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	if _, err := parseIDMap(bufio.NewScanner(strings.NewReader("0 x 1\n"))); err == nil {
		t.Error("a malformed map was read")
	}
}

func TestClaimIDs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "claims")
	var files []*os.File
	for want := range int64(3) {
		n, f, err := claimIDs(dir)
		if n != want || f == nil || err != nil {
			t.Fatalf("claimed %d, %v, %v, want %d", n, f, err, want)
		}
		files = append(files, f)
	}
	files[1].Close()
	if n, f, err := claimIDs(dir); n != 1 || err != nil {
		t.Errorf("claimed %d, %v, %v, want the one that is free again", n, f, err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if n, f, err := claimIDs(dir); err == nil {
		t.Errorf("claimed %d, %v where everybody may write", n, f)
	}
	if n, f, err := claimIDs("/proc/no/such"); n != 0 || f != nil || err != nil {
		t.Errorf("claimed %d, %v, %v where nothing can be written", n, f, err)
	}
}

// What one sandbox of root may do to its own processes and files, it may not do to another's.
func TestSandboxesOfRootShareNoID(t *testing.T) {
	first, second := start(t, sh("echo started; read x")), start(t, sh("echo started; read x"))
	if a, b := agentUID(t, first), agentUID(t, second); a == b {
		t.Errorf("both agents are uid %s on this machine", a)
	}
}

// agentUID is the uid outside of a sandbox's agent.
func agentUID(t *testing.T, s *sandbox) string {
	t.Helper()
	s.stdout.await(t, "started")
	agent := descendants(t, s.process("stage"))[0]
	return strings.Fields(procStatus(t, agent)["Uid"])[0]
}
