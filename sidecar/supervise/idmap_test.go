package supervise

import (
	"bufio"
	"strings"
	"testing"
)

func TestAgentRange(t *testing.T) {
	for _, test := range []struct {
		name, idMap string
		want        idRange
	}{
		{"root of the machine", "0 0 4294967295\n", idRange{agentFirstID, agentIDCount}},
		{"container with a range", "0 100000 65536\n", idRange{1, workerID - 1}},
		{"container with two ranges", "         0       1000          1\n         1     100000      65536\n", idRange{1, workerID - 1}},
		{"container with many", "0 1000000 300000\n", idRange{agentFirstID, agentIDCount}},
		{"just beside the usual ones", "0 0 250000\n", idRange{workerID + 1, agentIDCount}},
		{"few", "0 100000 10\n", idRange{1, 9}},
		{"rootless", "0 1000 1\n", idRange{0, 1}},
	} {
		have, err := parseIDMap(bufio.NewScanner(strings.NewReader(test.idMap)))
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if got := agentRange(have); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	if _, err := parseIDMap(bufio.NewScanner(strings.NewReader("0 x 1\n"))); err == nil {
		t.Error("a malformed map was read")
	}
}
