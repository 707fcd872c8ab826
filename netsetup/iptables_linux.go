package netsetup

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// ipTables keeps the rules in a chain of its own, in the tables nat and filter
// of each family. How iptables lists them is in testdata/sallyport.iptables.
type ipTables struct {
	ns    *os.File
	ports ports
	tools []*iptables.IPTables // those that loaded the rules, one a family
}

const (
	chainName       = "SALLYPORT"
	lockWaitSeconds = 10
)

// programs are tried in this order. The plain names are often the ones that need
// nf_tables, without which this backend is wanted.
var programs = [][]string{{"iptables-legacy", "ip6tables-legacy"}, {"iptables", "ip6tables"}}

// table is the rules of one table, as "iptables -S" writes them.
type table struct {
	name  string
	rules []string
}

// tables are in the order of loading: what is not redirected yet is rejected.
func (t *ipTables) tables(p iptables.Protocol) []table {
	addr, unreach, prohibited := prefix4.Addr().String(), "icmp-port-unreachable", "icmp-admin-prohibited"
	if p == iptables.ProtocolIPv6 {
		addr, unreach, prohibited = "["+prefix6.Addr().String()+"]", "icmp6-port-unreachable", "icmp6-adm-prohibited"
	}
	return []table{{"filter", []string{
		"-m addrtype --dst-type LOCAL -j ACCEPT",
		"-p udp -m udp --dport 443 -j REJECT --reject-with " + unreach,
		"-j REJECT --reject-with " + prohibited,
	}}, {"nat", []string{
		"-m addrtype --dst-type LOCAL -j ACCEPT",
		fmt.Sprintf("-p udp -m udp --dport 53 -j DNAT --to-destination %s:%d", addr, t.ports.dns),
		fmt.Sprintf("-p tcp -m tcp --dport 53 -j REDIRECT --to-ports %d", t.ports.dns),
		fmt.Sprintf("-p tcp -j REDIRECT --to-ports %d", t.ports.intercept),
	}}}
}

func (t *ipTables) load() error {
	return enter(t.ns, func() error {
		var failed []error
		for _, names := range programs {
			tools, err := find(names)
			if err == nil {
				err = t.loadWith(tools)
			}
			if err == nil {
				t.tools = tools
				return nil
			}
			failed = append(failed, fmt.Errorf("%s: %w", names[0], err))
			if errors.Is(err, errSealed) {
				break
			}
		}
		return errors.Join(failed...)
	})
}

// find looks for the programs of each family that the kernel has.
func find(names []string) ([]*iptables.IPTables, error) {
	var tools []*iptables.IPTables
	for i, family := range []iptables.Protocol{iptables.ProtocolIPv4, iptables.ProtocolIPv6} {
		if family == iptables.ProtocolIPv6 && !kernelHasIPv6() {
			continue
		}
		tool, err := iptables.New(iptables.IPFamily(family), iptables.Path(names[i]), iptables.Timeout(lockWaitSeconds))
		if err != nil {
			return nil, err
		}
		tools = append(tools, tool)
	}
	return tools, nil
}

func (t *ipTables) loadWith(tools []*iptables.IPTables) error {
	for _, tool := range tools {
		for _, table := range t.tables(tool.Proto()) {
			if there, err := tool.ChainExists(table.name, chainName); err != nil {
				return hint(err)
			} else if there {
				return fmt.Errorf("its table %s has the chain %s: %w", table.name, chainName, errSealed)
			}
		}
	}
	for _, tool := range tools {
		for _, table := range t.tables(tool.Proto()) {
			if err := table.load(tool); err != nil {
				return errors.Join(err, t.removeWith(tools))
			}
		}
	}
	return nil
}

func (tb table) load(tool *iptables.IPTables) error {
	if err := tool.NewChain(tb.name, chainName); err != nil {
		return err
	}
	for _, rule := range tb.rules {
		if err := tool.Append(tb.name, chainName, strings.Fields(rule)...); err != nil {
			return err
		}
	}
	return tool.Insert(tb.name, "OUTPUT", 1, "-j", chainName)
}

// hint says what to do about the lock that the programs take for the whole
// machine, although this namespace is nobody else's.
func hint(err error) error {
	if strings.Contains(err.Error(), "xtables.lock") {
		return fmt.Errorf("%w: set XTABLES_LOCKFILE to a file that can be written", err)
	}
	return err
}

func (t *ipTables) remove() error {
	return enter(t.ns, func() error { return t.removeWith(t.tools) })
}

func (t *ipTables) removeWith(tools []*iptables.IPTables) error {
	var errs []error
	for _, tool := range tools {
		for _, table := range t.tables(tool.Proto()) {
			if there, err := tool.ChainExists(table.name, chainName); err != nil || !there {
				errs = append(errs, err)
				continue
			}
			errs = append(errs,
				tool.DeleteIfExists(table.name, "OUTPUT", "-j", chainName),
				tool.ClearAndDeleteChain(table.name, chainName))
		}
	}
	return errors.Join(errs...)
}

func (t *ipTables) verify() error {
	return enter(t.ns, func() error {
		for _, tool := range t.tools {
			for _, table := range t.tables(tool.Proto()) {
				if err := table.verify(tool); err != nil {
					return fmt.Errorf("table %s: %w", table.name, err)
				}
			}
		}
		return nil
	})
}

func (tb table) verify(tool *iptables.IPTables) error {
	output, err := tool.List(tb.name, "OUTPUT")
	if err != nil {
		return fmt.Errorf("read back the chain OUTPUT: %w", err)
	}
	if jump := "-A OUTPUT -j " + chainName; len(output) < 2 || output[1] != jump {
		return fmt.Errorf("%q is not the first rule of the chain OUTPUT", jump)
	}
	got, err := tool.List(tb.name, chainName)
	if err != nil {
		return fmt.Errorf("read back the chain %s: %w", chainName, err)
	}
	want := []string{"-N " + chainName}
	for _, rule := range tb.rules {
		want = append(want, "-A "+chainName+" "+rule)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("the chain %s is not the one that was loaded: has %q, should have %q", chainName, got, want)
	}
	return nil
}
