package e2e_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/e2e"
)

var memoryWatch = flag.Duration("memory.watch", 0, "go on to count the copies in a worker's memory for this long, and print them")

// The rules of hygieneWorld's credentials, by name.
var hygieneRules = map[string][]string{
	"bearer": {"--inject", "bearer"},
	"query":  {"--inject", "query:key"},
	"basic":  {"--inject", "basic", "--auth", "basic", "--username", "user"},
	"path":   {"--inject", "path:/bot{{token}}/{{path}}"},
}

func hygieneHost(name string) string { return name + ".hygiene.test" }

// hygieneWorld has an agent with a credential of each kind, and gives their secrets.
// The services answer; at /echo by what they were sent.
func hygieneWorld(t *testing.T) (*e2e.World, map[string]string) {
	w := e2e.NewWorld(t, e2e.Shipped)
	secrets := make(map[string]string)
	w.CLI("vault", "create", "agent")
	w.CLI("agent", "create", "agent")
	w.CLI("agent", "pin", "agent", "agent")
	for name, flags := range hygieneRules {
		secrets[name] = fmt.Sprintf("canary-%s-7f3a9c1e5b2d8046", name)
		w.Credential("agent", name, secrets[name], append(flags, "--host", hygieneHost(name))...)
		w.OriginServer(hygieneHost(name), http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				t.Error(err)
			}
			if strings.Contains(r.URL.Path, "echo") {
				fmt.Fprintln(rw, r.URL, r.Header)
			}
			fmt.Fprintln(rw, "end")
		}), "h2", "http/1.1")
	}
	return w, secrets
}

// everyWay is curl's flags for requests with and without bodies, known and unknown
// in length, in both protocols.
var everyWay = []string{"--http1.1", "--http1.1 -d text", "--http1.1 -T- -H Expect:", "--http2", "--http2 -d text"}

// use is a shell script that uses every credential in each of the ways.
func use(path string, ways ...string) string {
	var b strings.Builder
	for name := range hygieneRules {
		url := "https://" + hygieneHost(name) + path
		for _, flags := range ways {
			fmt.Fprintf(&b, "echo text | curl -sS -f %s %s >/dev/null || echo failed %s %s\n", flags, url, name, flags)
		}
	}
	return b.String()
}

// TestMemoryAfterRotation looks for a value that was rotated away in the worker's
// memory. What it was sent in over HTTP/1 is wiped with each request.
func TestMemoryAfterRotation(t *testing.T) {
	w, secrets := hygieneWorld(t)
	agent := w.Start("agent", "sh", "-c", use("/", everyWay...)+"echo used; read x; "+use("/echo", everyWay...)+"echo used; read x")
	for _, path := range []string{"/", "/echo"} {
		if line := agent.Line(); line != "used" {
			t.Fatal(line)
		}
		for name, found := range agent.InWorkerMemory(secrets) {
			if found == 0 {
				t.Errorf("the search does not find %s while it is in use", name)
			}
		}
		old := maps.Clone(secrets)
		old["head"] = "Authorization: Bearer " + secrets["bearer"]
		old["target"] = "GET /bot" + secrets["path"] + "/ HTTP/1.1"
		for name := range secrets {
			secrets[name] = fmt.Sprintf("rotated%s-%s-91c4d7e2a6b3f508", strings.ReplaceAll(path, "/", "-"), name)
			w.CLIReading(secrets[name], "credential", "rotate", "--vault", "agent", name, "--secret-file", "-", "--wait")
		}
		start := time.Now()
		for wait := time.Second; ; wait *= 2 {
			found := agent.InWorkerMemory(old)
			var line strings.Builder
			for _, name := range slices.Sorted(maps.Keys(found)) {
				fmt.Fprintf(&line, " %s %d", name, found[name])
			}
			t.Logf("%s: copies %v after the rotation:%s", path, time.Since(start).Round(time.Second), line.String())
			if found["head"]+found["target"] > 0 {
				t.Error("the head of a request is kept")
			}
			if time.Since(start) >= *memoryWatch {
				break
			}
			time.Sleep(wait)
		}
		agent.Say("")
	}
}

// TestCrashPrintsNothing ends workers that hold material in every way that the Go
// runtime reports with a trace, whose arguments and registers are memory.
func TestCrashPrintsNothing(t *testing.T) {
	w, secrets := hygieneWorld(t)
	agent := w.Start("agent", "sh", "-c", "while read x; do "+use("/echo", "--http1.1")+"echo used; done")
	signals := []syscall.Signal{syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGSEGV}
	for _, sig := range signals {
		if line := agent.Ask("x"); line != "used" {
			t.Fatal(line)
		}
		worker := agent.Worker()
		if err := syscall.Kill(worker, sig); err != nil {
			t.Fatal(err)
		}
		w.Eventually(fmt.Sprintf("a worker follows the one that %v ended", sig), func() bool {
			next := agent.FindWorker()
			return next != worker && next != 0
		})
	}
	agent.Stop()
	output := agent.Output()
	if got := strings.Count(output, "the worker died"); got != len(signals) {
		t.Errorf("%d workers died:\n%s", got, output)
	}
	if strings.Contains(output, "goroutine ") || strings.Contains(output, "PC=") {
		t.Error("a crash printed a trace")
	}
	for name, secret := range secrets {
		for i := range len(secret) - 7 {
			word := fmt.Sprintf("%x", binary.NativeEndian.Uint64([]byte(secret[i:])))
			if strings.Contains(output, secret[i:i+8]) || strings.Contains(output, word) {
				t.Errorf("a crash printed a part of %s", name)
			}
		}
	}
}
