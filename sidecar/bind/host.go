package bind

import (
	"fmt"
	"net/netip"
	"strings"

	"sallyport/control/api"
)

// host is a host of a policy's rule: a name, the names below one, or addresses.
type host struct {
	name   string
	below  below
	prefix netip.Prefix
}

type below uint8

const (
	exactly  below = iota
	oneLabel       // "*."
	anyLabel       // "**."
)

func parseHost(text string) (host, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return host{prefix: p.Masked()}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return host{prefix: netip.PrefixFrom(a, a.BitLen())}, nil
	}
	h := host{name: text}
	if rest, found := strings.CutPrefix(text, "**."); found {
		h = host{name: rest, below: anyLabel}
	} else if rest, found := strings.CutPrefix(text, "*."); found {
		h = host{name: rest, below: oneLabel}
	}
	var err error
	if h.name, err = api.NormalizeHost(h.name); err != nil {
		return host{}, fmt.Errorf("the host %q: %w", text, err)
	}
	return h, nil
}

// match reports whether a name, as api.NormalizeHost gives it, is the host's.
func (h host) match(name string) bool {
	label, found := strings.CutSuffix(name, "."+h.name)
	switch h.below {
	case exactly:
		return name == h.name
	case oneLabel:
		return found && label != "" && !strings.Contains(label, ".")
	}
	return found && label != ""
}
