package netsetup_test

import (
	_ "embed"
	"strings"
	"testing"

	"sallyport/netsetup"
	"sallyport/netsetup/netnstest"

	"github.com/google/go-cmp/cmp"
)

//go:embed testdata/sallyport.nft
var goldenNFT string

//go:embed testdata/sallyport.iptables
var goldenIPTables string

func TestNFTablesGolden(t *testing.T) {
	ns := netnstest.Seal(t, netsetup.Config{Backend: netsetup.NFTables})
	if diff := cmp.Diff(goldenNFT, mustInside(t, ns, "nft", "list", "ruleset")); diff != "" {
		t.Errorf("nft list ruleset (-want +got):\n%s", diff)
	}
}

func TestIPTablesGolden(t *testing.T) {
	ns := netnstest.Seal(t, netsetup.Config{Backend: netsetup.IPTables})
	var got strings.Builder
	for _, program := range []string{"iptables-legacy", "ip6tables-legacy"} {
		for _, table := range []string{"filter", "nat"} {
			got.WriteString("# " + program + " -t " + table + " -S\n")
			got.WriteString(mustInside(t, ns, program, "-t", table, "-S"))
		}
	}
	if diff := cmp.Diff(goldenIPTables, got.String()); diff != "" {
		t.Errorf("the rules (-want +got):\n%s", diff)
	}
}

func TestVerifySeesEveryChange(t *testing.T) {
	tests := []struct {
		name    string
		backend netsetup.Backend
		command string
		want    string
	}{
		{"no rules", netsetup.NFTables, "nft flush ruleset", "read back the table"},
		{"dormant", netsetup.NFTables, "nft 'add table inet sallyport { flags dormant; }'", "dormant"},
		{"a rule before", netsetup.NFTables, "nft insert rule inet sallyport filter_output accept", "4 rules"},
		{"a rule gone", netsetup.NFTables, "nft flush chain inet sallyport nat_output", "0 rules"},
		{"a rule changed", netsetup.NFTables, "nft 'flush chain inet sallyport filter_output" + strings.Repeat("; add rule inet sallyport filter_output accept", 3) + "'", "rule 1"},
		{"policy", netsetup.NFTables, "nft 'chain inet sallyport filter_output { policy accept; }'", "policy 1"},
		{"a chain more", netsetup.NFTables, "nft add chain inet sallyport more", "3 chains"},
		{"no rules", netsetup.IPTables, "iptables-legacy -F SALLYPORT", "chain SALLYPORT"},
		{"no rules for IPv6", netsetup.IPTables, "ip6tables-legacy -t nat -F SALLYPORT", "chain SALLYPORT"},
		{"a rule before", netsetup.IPTables, "iptables-legacy -I OUTPUT -j ACCEPT", "first rule"},
		{"no jump", netsetup.IPTables, "ip6tables-legacy -t nat -F OUTPUT", "first rule"},
		{"link down", netsetup.NFTables, "ip link set eth0 down", "not up: eth0"},
		{"no links", netsetup.NFTables, "ip link del eth0", "not up: eth0, sallyport0"},
		{"a link more", netsetup.NFTables, "ip link add out type veth peer out2", "interface out"},
	}
	for _, test := range tests {
		t.Run(string(test.backend)+"/"+test.name, func(t *testing.T) {
			ns := netnstest.Seal(t, netsetup.Config{Backend: test.backend})
			if err := ns.Verify(t.Context()); err != nil {
				t.Fatal(err)
			}
			mustInside(t, ns, "sh", "-c", test.command)
			if err := ns.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("after %q: %v, want an error with %q", test.command, err, test.want)
			}
		})
	}
}
