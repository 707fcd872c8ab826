package netsetup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// nfTables keeps the rules in the table inet sallyport. How nft prints it is in
// testdata/sallyport.nft.
type nfTables struct {
	ns    *os.File
	ports ports
}

// chain is a base chain with its rules.
type chain struct {
	*nftables.Chain
	rules [][]expr.Any
}

// do runs f with a connection to the namespace's nf_tables. It enters the
// namespace itself: WithNetNSFd panics where the kernel has no nf_tables.
func (t *nfTables) do(f func(*nftables.Conn) error) error {
	return enter(t.ns, func() error {
		c, err := nftables.New(nftables.AsLasting())
		if err != nil {
			return fmt.Errorf("reach nf_tables: %w", err)
		}
		return errors.Join(f(c), c.CloseLasting())
	})
}

func (t *nfTables) table() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
}

func (t *nfTables) chains() []chain {
	accept, drop := nftables.ChainPolicyAccept, nftables.ChainPolicyDrop
	table := t.table()
	return []chain{{
		Chain: &nftables.Chain{
			Name: "nat_output", Table: table, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest, Policy: &accept,
		},
		rules: [][]expr.Any{
			slices.Concat(toLocal(), verdict(expr.VerdictAccept)),
			slices.Concat(family(unix.NFPROTO_IPV4), port(unix.IPPROTO_UDP, 53), dnat(prefix4.Addr(), t.ports.dns)),
			slices.Concat(family(unix.NFPROTO_IPV6), port(unix.IPPROTO_UDP, 53), dnat(prefix6.Addr(), t.ports.dns)),
			slices.Concat(port(unix.IPPROTO_TCP, 53), redirect(t.ports.dns)),
			slices.Concat(protocol(unix.IPPROTO_TCP), redirect(t.ports.intercept)),
		},
	}, {
		Chain: &nftables.Chain{
			Name: "filter_output", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter, Policy: &drop,
		},
		rules: [][]expr.Any{
			slices.Concat(toLocal(), verdict(expr.VerdictAccept)),
			slices.Concat(port(unix.IPPROTO_UDP, 443), reject(unix.NFT_REJECT_ICMPX_PORT_UNREACH)),
			reject(unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED),
		},
	}}
}

// load sends everything in one transaction.
func (t *nfTables) load() error {
	return t.do(func(c *nftables.Conn) error {
		c.CreateTable(t.table())
		for _, chain := range t.chains() {
			c.AddChain(chain.Chain)
			for _, rule := range chain.rules {
				c.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain.Chain, Exprs: rule})
			}
		}
		err := c.Flush()
		if errors.Is(err, unix.EEXIST) {
			return errSealed
		}
		return err
	})
}

func (t *nfTables) remove() error {
	return t.do(func(c *nftables.Conn) error {
		c.DelTable(t.table())
		if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) { // somebody else did
			return fmt.Errorf("remove the table inet %s: %w", tableName, err)
		}
		return nil
	})
}

func (t *nfTables) verify() error { return t.do(t.verifyBy) }

func (t *nfTables) verifyBy(c *nftables.Conn) error {
	table, err := c.ListTableOfFamily(tableName, nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("read back the table inet %s: %w", tableName, err)
	}
	if table.Flags != 0 {
		return fmt.Errorf("the table inet %s has flags (%#x): is it dormant?", tableName, table.Flags)
	}
	all, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("read back the chains: %w", err)
	}
	got := slices.DeleteFunc(all, func(c *nftables.Chain) bool { return c.Table.Name != tableName })
	want := t.chains()
	if len(got) != len(want) {
		return fmt.Errorf("the table inet %s has %d chains, not %d", tableName, len(got), len(want))
	}
	for i, chain := range want {
		if err := chain.verify(c, got[i]); err != nil {
			return fmt.Errorf("chain %s: %w", chain.Name, err)
		}
	}
	return nil
}

// verify compares the chain with what the kernel has in its place.
func (w chain) verify(c *nftables.Conn, got *nftables.Chain) error {
	switch {
	case got.Name != w.Name:
		return fmt.Errorf("has the name %s", got.Name)
	case got.Hooknum == nil || got.Priority == nil || got.Policy == nil:
		return errors.New("is on no hook")
	case got.Type != w.Type || *got.Hooknum != *w.Hooknum || *got.Priority != *w.Priority || *got.Policy != *w.Policy:
		return fmt.Errorf("has type %s, hook %d, priority %d, policy %d", got.Type, *got.Hooknum, *got.Priority, *got.Policy)
	}
	rules, err := c.GetRules(got.Table, got)
	if err != nil {
		return fmt.Errorf("read back the rules: %w", err)
	}
	if len(rules) != len(w.rules) {
		return fmt.Errorf("has %d rules, not %d", len(rules), len(w.rules))
	}
	for i, rule := range rules {
		is, err := wire(rule.Exprs)
		if err != nil {
			return err
		}
		should, err := wire(w.rules[i])
		if err != nil {
			return err
		}
		if !bytes.Equal(is, should) {
			return fmt.Errorf("rule %d is not the one that was loaded", i+1)
		}
	}
	return nil
}

// wire is a rule as it goes over netlink.
func wire(rule []expr.Any) ([]byte, error) {
	var b []byte
	for _, e := range rule {
		m, err := expr.Marshal(byte(nftables.TableFamilyINet), e)
		if err != nil {
			return nil, fmt.Errorf("encode a rule: %w", err)
		}
		b = append(b, m...)
	}
	return b, nil
}

// The terms that rules are made of, in nft's words.

func equal(data []byte) *expr.Cmp { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }

// toLocal is "fib daddr type local".
func toLocal() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true},
		equal(binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)),
	}
}

// family is "meta nfproto PROTO".
func family(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{proto})}
}

// protocol is "meta l4proto PROTO".
func protocol(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{proto})}
}

// port is "PROTO dport PORT".
func port(proto byte, port uint16) []expr.Any {
	return append(protocol(proto),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		equal(binary.BigEndian.AppendUint16(nil, port)))
}

// redirect is "redirect to :PORT".
func redirect(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, port)},
		&expr.Redir{RegisterProtoMin: 1, RegisterProtoMax: 1, Flags: expr.NF_NAT_RANGE_PROTO_SPECIFIED},
	}
}

// dnat is "dnat ip to ADDR:PORT", or ip6.
func dnat(addr netip.Addr, port uint16) []expr.Any {
	family := uint32(unix.NFPROTO_IPV4)
	if addr.Is6() {
		family = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: addr.AsSlice()},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, port)},
		&expr.NAT{
			Type: expr.NATTypeDestNAT, Family: family, Specified: true,
			RegAddrMin: 1, RegAddrMax: 1, RegProtoMin: 2, RegProtoMax: 2,
		},
	}
}

// reject is "reject with icmpx CODE".
func reject(code uint8) []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: code}}
}
