package outside

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/control"
	"sallyport/control/store"
	"sallyport/e2e"
)

// drain is what one case works with.
type drain struct {
	out   *witness
	world *e2e.World // whose control plane outlives the case
	w     *e2e.World
	u     *upstream
}

// load starts a sandbox where requests are made all the time, and now and then what
// would be ways out.
func (d *drain) load(pause time.Duration) *e2e.Program {
	script := `while :; do "$1" -groups=sockets,datagrams -sample=64 >/dev/null; done & exec "$2" -pause ` + pause.String() + ` -secret ` + drainKey + ` https://` + drainHost
	p := d.w.StartSidecar("agent", []string{"init"}, "sh", "-c", script, "sh", d.w.Client("attacker"), d.w.Client("loader"))
	p.Line() // it is ready
	d.report(p)
	return p
}

// loaded is what the loader says.
type loaded struct {
	OK, Attempts, Leaks int
	Longest, LastOK     int64
	Failed              map[string]int
}

// report asks the loader, once some requests have succeeded.
func (d *drain) report(p *e2e.Program) loaded {
	var sum loaded
	d.w.Eventually("requests are answered", func() bool {
		got := parse(p.Ask("report"))
		sum.OK, sum.Attempts, sum.Leaks = sum.OK+got.OK, sum.Attempts+got.Attempts, sum.Leaks+got.Leaks
		sum.Longest, sum.LastOK = max(sum.Longest, got.Longest), max(sum.LastOK, got.LastOK)
		if sum.Failed == nil {
			sum.Failed = map[string]int{}
		}
		for what, n := range got.Failed {
			sum.Failed[what] += n
		}
		return sum.OK > 20
	})
	return sum
}

func parse(line string) loaded {
	var l loaded
	if err := json.Unmarshal([]byte(line), &l); err != nil {
		panic(fmt.Sprintf("the loader said %q", line))
	}
	return l
}

// unharmed checks that every request was answered, and gives the longest wait.
func (d *drain) unharmed(t *testing.T, p *e2e.Program) int64 {
	t.Helper()
	got := d.report(p)
	if got.Leaks > 0 || len(got.Failed) > 0 {
		t.Errorf("of %d attempts failed %v; %d answers held the secret", got.Attempts, got.Failed, got.Leaks)
	}
	return got.Longest
}

// sandbox is the ID of the newest sandbox, which is enrolled.
func (d *drain) sandbox(t *testing.T) string {
	t.Helper()
	var sandboxes []control.Sandbox
	if err := json.Unmarshal([]byte(d.w.CLI("-o", "json", "sandbox", "list")), &sandboxes); err != nil {
		t.Fatal(err)
	}
	newest := slices.MaxFunc(sandboxes, func(a, b control.Sandbox) int { return strings.Compare(a.ID, b.ID) })
	if newest.State != control.SandboxEnrolled {
		t.Fatalf("the newest sandbox is %s", newest.State)
	}
	return newest.ID
}

// connected waits until the sandbox is, by itself.
func (d *drain) connected(t *testing.T, id string) {
	t.Helper()
	d.w.Eventually("the sandbox is connected again", func() bool {
		var sandboxes []control.Sandbox
		err := json.Unmarshal([]byte(d.w.CLI("-o", "json", "sandbox", "list")), &sandboxes)
		return err == nil && slices.ContainsFunc(sandboxes, func(s control.Sandbox) bool { return s.ID == id && s.Connected })
	})
}

// socket is the path of the database's.
func (d *drain) socket(t *testing.T) string {
	t.Helper()
	var found string
	err := filepath.WalkDir(d.w.DataDir(), func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // Postgres removes files meanwhile
		}
		if filepath.Base(path) == ".s.PGSQL.5432" {
			found = path
		}
		return err
	})
	if err != nil || found == "" {
		t.Fatalf("the database has no socket: %v", err)
	}
	return found
}

func (d *drain) database(t *testing.T) string {
	return "postgres://sallyport@/postgres?host=" + filepath.Dir(d.socket(t))
}

func (d *drain) sql(t *testing.T, statement string) string {
	t.Helper()
	cmd := exec.Command("psql", d.database(t), "-v", "ON_ERROR_STOP=1", "-Atc", statement)
	cmd.Dir = "/" // its user may not see the tests' own
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", statement, err, output)
	}
	return string(output)
}

// chain verifies the audit chain.
func (d *drain) chain(t *testing.T) {
	t.Helper()
	s, err := store.Open(t.Context(), d.database(t), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	team, err := s.Team(t.Context(), "default")
	if err == nil {
		err = s.VerifyChain(t.Context(), team.ID)
	}
	if err != nil {
		t.Error(err)
	}
}
