package outside

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sallyport/e2e"
)

// TestEscapeByNames has an agent ask for names that would carry a message, of every kind
// of record and by both transports, and counts what the machine's resolver is asked.
func TestEscapeByNames(t *testing.T) {
	out := newWitness(t)
	w := e2e.NewWorld(t, e2e.Shipped)
	w.CLI("agent", "create", "open")
	w.CLI("agent", "create", "closed")
	w.CLI("agent", "policy", "set", "closed", "--rule", "inspect allowed.tunnel.test", "--rule", "deny *")

	// dig NAME… asks all of them at once.
	ask := func(t *testing.T, agent, flags string, names ...string) []string {
		out.take()
		r := w.In(t).TryRun(agent, append([]string{"/bin/sh", "-c", "dig +tries=1 +timeout=2 +short " + flags + ` "$@" </dev/null`, "sh"}, names...)...)
		_, asked := out.take()
		asked = slices.DeleteFunc(asked, func(name string) bool { return !strings.HasSuffix(name, ".tunnel.test.") })
		if strings.Contains(r.Stdout, strings.TrimSpace(greeting)) {
			t.Errorf("a message came back:\n%s", r.Stdout)
		}
		return asked
	}
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("message-%d.tunnel.test", i))
	}
	long := strings.Repeat(strings.Repeat("x", 40)+".", 5) + "tunnel.test"
	deep := strings.Repeat("x.", 20) + "tunnel.test"

	t.Run("the resolver is heard", func(t *testing.T) {
		if asked := ask(t, "open", "", "hello.tunnel.test"); !slices.Contains(asked, "hello.tunnel.test.") {
			t.Errorf("asked for %q: nothing would be noticed", asked)
		}
	})
	kinds := []string{"TXT", "NULL", "CNAME", "MX", "SRV", "NS", "SOA", "PTR", "KEY", "HTTPS", "SVCB", "ANY", "AXFR", "TYPE65399"}
	if !*all {
		kinds = kinds[:2]
	}
	for _, kind := range kinds {
		for _, transport := range []string{"", "+tcp "} {
			t.Run(transport+kind, func(t *testing.T) {
				if asked := ask(t, "open", transport+"-t "+kind, "message.tunnel.test"); len(asked) > 0 {
					t.Errorf("%q went out", asked)
				}
			})
		}
	}
	for name, flags := range map[string]string{"another class": "-c CH", "another server": "@45.1.1.1 -t TXT", "another port": "@45.1.1.1 -p 5353", "an update": "+opcode=update"} {
		t.Run(name, func(t *testing.T) {
			if asked := ask(t, "open", flags, "message.tunnel.test"); len(asked) > 0 {
				t.Errorf("%q went out", asked)
			}
		})
	}
	t.Run("a long name", func(t *testing.T) {
		if asked := ask(t, "open", "", long, deep); len(asked) > 0 {
			t.Errorf("%q went out", asked)
		}
	})
	t.Run("a thousand names", func(t *testing.T) {
		asked := ask(t, "open", "", many...)
		t.Logf("%d of %d names went out", len(asked), len(many))
		if len(asked) > len(many)/2 || len(asked) == 0 {
			t.Errorf("%d of %d names went out", len(asked), len(many))
		}
	})
	t.Run("where policy denies the names", func(t *testing.T) {
		if asked := ask(t, "closed", "", many[:50]...); len(asked) > 0 {
			t.Errorf("%q went out", asked)
		}
	})
	t.Run("beside a name that policy allows", func(t *testing.T) {
		asked := ask(t, "closed", "", "allowed.tunnel.test", "x.allowed.tunnel.test")
		if slices.Contains(asked, "x.allowed.tunnel.test.") || !slices.Contains(asked, "allowed.tunnel.test.") {
			t.Errorf("asked for %q", asked)
		}
	})
}
