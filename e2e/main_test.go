package e2e_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"sallyport/e2e"
	"sallyport/netsetup/netnstest"
)

var (
	aloneTests = flag.Bool("alone", false, "run only the tests that count on being alone on the machine")
	beside     = flag.Int("beside", 0, "run only the others, so many at once, each in a process and namespaces of its own")
)

// alone are the tests that measure memory, or how soon something happens.
var alone = []string{"TestFloods", "TestHTTP3", "TestListenerLeaves", "TestMCP", "TestServerSentEvents", "TestSlowReader"}

// sharing are those that write to bin/, fetch from the network, or ask what this
// machine allows: of these one runs at a time, in the machine's namespaces.
var sharing = []string{"TestImages", "TestDemo", "TestDoctor"}

// besideVar tells a process that it runs a test beside others.
const besideVar = "SALLYPORT_E2E_BESIDE"

// Without a flag of ours the tests run one after another, as elsewhere.
func TestMain(m *testing.M) {
	flag.Parse()
	switch {
	case os.Getenv(besideVar) != "":
		netnstest.Main(m)
	case *aloneTests || *beside > 0:
		if err := runChosen(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

// runChosen runs the tests that -alone or -beside is about and -run selects.
func runChosen() error {
	names, err := testNames()
	if err != nil {
		return err
	}
	for _, name := range slices.Concat(alone, sharing) {
		if !slices.Contains(names, name) {
			return fmt.Errorf("there is no %s any more: take it out of the list of the tests that must be alone", name)
		}
	}
	pattern := flag.Lookup("test.run").Value.String()
	first, rest, _ := strings.Cut(pattern, "/")
	chosen, err := regexp.Compile(first)
	if err != nil {
		return err
	}
	var apart, together []string
	for _, name := range names {
		switch {
		case !chosen.MatchString(name):
		case slices.Contains(alone, name) != *aloneTests:
		case *aloneTests || slices.Contains(sharing, name):
			together = append(together, name)
		default:
			apart = append(apart, name)
		}
	}
	if err := e2e.Build(); err != nil {
		return err
	}
	var out printer
	var group errgroup.Group
	group.SetLimit(max(*beside, 1))
	if len(together) > 0 {
		group.Go(func() error { return out.run("^("+strings.Join(together, "|")+")$", rest) })
	}
	for _, name := range apart {
		group.Go(func() error { return out.run("^"+name+"$", rest, besideVar+"=1") })
	}
	return group.Wait()
}

// testNames lists the tests of this package.
func testNames() ([]string, error) {
	listed, err := exec.Command("/proc/self/exe", "-test.list=.").Output()
	if err != nil {
		return nil, fmt.Errorf("list the tests: %w", err)
	}
	return slices.DeleteFunc(strings.Fields(string(listed)), func(name string) bool { return !strings.HasPrefix(name, "Test") }), nil
}

// printer prints what one process said after what another did.
type printer struct{ mu sync.Mutex }

// run runs tests in a process of their own, with the flags of this one.
func (p *printer) run(pattern, subtests string, env ...string) error {
	if subtests != "" {
		pattern += "/" + subtests
	}
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(arg string) bool {
		arg = strings.TrimLeft(arg, "-")
		return strings.HasPrefix(arg, "alone") || strings.HasPrefix(arg, "beside=") || strings.HasPrefix(arg, "test.testlogfile=")
	})
	cmd := exec.Command("/proc/self/exe", append(args, "-test.run="+pattern)...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), env...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	if err == nil && !testing.Verbose() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, copied := io.Copy(os.Stdout, &said)
	if err != nil {
		return fmt.Errorf("%s: %w", pattern, err)
	}
	return copied
}
