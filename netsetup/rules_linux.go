package netsetup

import (
	"context"
	"errors"
	"fmt"
)

// ruleset is one backend's form of the rules:
//
//	nat/output     what goes to the namespace itself    left alone
//	               UDP 53                               to the DNS port
//	               TCP 53                               to the DNS port
//	               other TCP                            to the interception port
//	filter/output  what goes, by now, to the namespace  accepted
//	               UDP 443                              rejected, port unreachable:
//	                                                    HTTP/3 clients fall back at once
//	               the rest                             rejected, administratively
//
// UDP 443 is rejected on its way out, so that the send itself fails (EPERM): an ICMP
// error alone never reaches a socket that is not connected, and quic-go then waits
// for 5 seconds.
//
// UDP 53 is sent to the address that programs send from, not to the loopback: a
// plain answer then leaves from where the question arrived, as NAT needs it to.
type ruleset interface {
	load() error   // all or nothing; errSealed if they are there already
	verify() error // what the kernel has is what load put there
	remove() error
}

const tableName = "sallyport"

var errSealed = fmt.Errorf("the namespace is sealed already; if the sidecar that did it was killed, run "+
	"'ip link del %s; nft delete table inet %s' in the namespace, or restart the container", peerName, tableName)

// loadRules loads the rules with the backend asked for, or the first that works.
func (n *Namespace) loadRules(ctx context.Context, b Backend, p ports) error {
	backends := []Backend{b}
	if b == Auto {
		backends = []Backend{NFTables, IPTables}
	}
	var failed []error
	for _, b := range backends {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		rules := n.newRuleset(b, p)
		err := rules.load()
		if err == nil {
			n.backend, n.rules = b, rules
			n.undo = append(n.undo, rules.remove)
			return nil
		}
		failed = append(failed, fmt.Errorf("load the rules with %s: %w", b, err))
		if errors.Is(err, errSealed) {
			break
		}
	}
	return errors.Join(failed...)
}

func (n *Namespace) newRuleset(b Backend, p ports) ruleset {
	if b == IPTables {
		return &ipTables{ns: n.file, ports: p}
	}
	return &nfTables{ns: n.file, ports: p}
}
