package bind

import (
	"net/netip"
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
