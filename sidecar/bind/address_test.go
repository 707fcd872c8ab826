package bind

import (
	"net/netip"
	"slices"
	"testing"

	"sallyport/control/api"
)

// A rule that denies addresses is asked about what is dialled in fact, where a
// name led to it. Rules about methods and paths hide none.
func TestConnect(t *testing.T) {
	refined := func(a api.Action, methods, paths []string, hosts ...string) *api.PolicyRule {
		return &api.PolicyRule{Action: a, Hosts: hosts, Methods: methods, Paths: paths}
	}
	blocked := hosts(deny, "198.51.100.0/24")
	for name, tt := range map[string]struct {
		rules []*api.PolicyRule
		want  map[string]int // the rule that denies each name; 0 for none
	}{
		"alone":                    {[]*api.PolicyRule{blocked}, map[string]int{"good.test": 1, "": 1}},
		"behind a denied method":   {[]*api.PolicyRule{refined(deny, []string{"DELETE"}, nil), blocked}, map[string]int{"good.test": 2, "": 2}},
		"behind an allowed method": {[]*api.PolicyRule{refined(inspect, []string{"GET"}, nil, "good.test"), blocked}, map[string]int{"good.test": 2}},
		"behind a path":            {[]*api.PolicyRule{refined(deny, nil, []string{"/admin"}, "good.test"), blocked}, map[string]int{"good.test": 2}},
		"behind an allowed name":   {[]*api.PolicyRule{hosts(inspect, "good.test"), blocked}, map[string]int{"good.test": 0, "other.test": 2, "": 2}},
		"behind all allowed":       {[]*api.PolicyRule{hosts(inspect), blocked}, map[string]int{"good.test": 0, "": 2}},
		"behind an allowed part":   {[]*api.PolicyRule{hosts(through, "198.51.100.9"), blocked}, map[string]int{"good.test": 0, "": 0}},
		"with methods":             {[]*api.PolicyRule{refined(deny, []string{"POST"}, nil, "198.51.100.0/24")}, map[string]int{"good.test": 1}},
		"with paths":               {[]*api.PolicyRule{refined(deny, nil, []string{"/x"}, "203.0.113.0/24", "198.51.100.0/24")}, map[string]int{"good.test": 1}},
		"of another network":       {[]*api.PolicyRule{hosts(deny, "203.0.113.0/24"), refined(deny, []string{"POST"}, nil)}, map[string]int{"good.test": 0}},
		"of another port":          {[]*api.PolicyRule{{Action: deny, Hosts: []string{"198.51.100.0/24"}, Ports: []uint32{8443}}}, map[string]int{"good.test": 0}},
	} {
		tab := policyTable(t, inspect, []*api.Binding{binding("bound", false, "good.test")}, tt.rules...)
		for host, want := range tt.want {
			got := 0
			if err := tab.Connect(host, 443, netip.MustParseAddr("198.51.100.9")); err != nil {
				got = err.(*DeniedError).Rule
			}
			if got != want {
				t.Errorf("%s: %q: rule %d, want %d", name, host, got, want)
			}
		}
	}
}

// What was connected to stays for as long as the rules about its address do.
func TestSameConnects(t *testing.T) {
	blocked, other := hosts(deny, "198.51.100.0/24"), hosts(deny, "203.0.113.0/24")
	good, method := hosts(inspect, "good.test"), &api.PolicyRule{Action: deny, Methods: []string{"DELETE"}}
	for name, tt := range map[string]struct {
		before, after []*api.PolicyRule
		host, all     bool
	}{
		"none":                 {nil, nil, true, true},
		"without addresses":    {nil, []*api.PolicyRule{good, method}, true, true},
		"the same":             {[]*api.PolicyRule{method, blocked}, []*api.PolicyRule{method, blocked}, true, true},
		"one more":             {nil, []*api.PolicyRule{blocked}, false, false},
		"another":              {[]*api.PolicyRule{blocked}, []*api.PolicyRule{other}, false, false},
		"behind a method":      {[]*api.PolicyRule{method}, []*api.PolicyRule{method, blocked}, false, false},
		"with a method":        {nil, []*api.PolicyRule{{Action: deny, Hosts: blocked.Hosts, Methods: []string{"POST"}}}, false, false},
		"for others":           {[]*api.PolicyRule{good}, []*api.PolicyRule{good, blocked}, true, false},
		"not hidden any more":  {[]*api.PolicyRule{good, blocked}, []*api.PolicyRule{blocked}, false, false},
		"an exception is gone": {[]*api.PolicyRule{hosts(inspect, "198.51.100.9"), blocked}, []*api.PolicyRule{blocked}, false, false},
	} {
		before, after := policyTable(t, inspect, nil, tt.before...), policyTable(t, inspect, nil, tt.after...)
		if got := after.SameConnects(before, "good.test", 443); got != tt.host {
			t.Errorf("%s: the host's: %v", name, got)
		}
		if got := after.SameAddresses(before); got != tt.all {
			t.Errorf("%s: all: %v", name, got)
		}
	}
}

// Names are asked about only where that may pass a connection through.
func TestAskedNames(t *testing.T) {
	at := func(a api.Action, port uint32, hosts ...string) *api.PolicyRule {
		return &api.PolicyRule{Action: a, Hosts: hosts, Ports: []uint32{port}}
	}
	for name, tt := range map[string]struct {
		rules []*api.PolicyRule
		want  []string
	}{
		"none":                       {nil, nil},
		"none passed through":        {[]*api.PolicyRule{hosts(deny, "a.test"), hosts(inspect, "b.test")}, nil},
		"on another port":            {[]*api.PolicyRule{at(through, 22, "a.test")}, nil},
		"a name, and one before":     {[]*api.PolicyRule{hosts(deny, "a.test", "*.c.test"), hosts(through, "b.test"), hosts(inspect, "d.test")}, []string{"a.test", "b.test"}},
		"an address, and one before": {[]*api.PolicyRule{hosts(deny, "a.test"), hosts(through, "198.51.100.0/24"), hosts(through, "d.test")}, []string{"a.test"}},
		"another address":            {[]*api.PolicyRule{hosts(deny, "a.test"), hosts(through, "203.0.113.0/24")}, nil},
		"behind a denied address":    {[]*api.PolicyRule{hosts(deny, "198.51.100.0/24"), hosts(through, "d.test")}, nil},
		"names below one":            {[]*api.PolicyRule{hosts(deny, "a.test"), hosts(through, "**.b.test")}, nil},
	} {
		tab := policyTable(t, inspect, nil, tt.rules...)
		if got := tab.AskedNames(netip.MustParseAddr("198.51.100.9"), 80); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
