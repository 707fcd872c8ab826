package resolve

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// TestLedIsBounded: servers that don't answer hold a connection up for a short
// while, however many names there are, and the next ones not at all.
func TestLedIsBounded(t *testing.T) {
	silent, stream := sockets(t, "127.0.0.1:0")
	defer silent.Close()
	defer stream.Close()
	r, err := New(Config{Servers: []netip.AddrPort{netip.MustParseAddrPort(silent.LocalAddr().String())}, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range 60 {
		names = append(names, fmt.Sprintf("n%d.test", i))
	}
	for _, most := range []time.Duration{leadsTimeout + time.Second, leadsTimeout / 4} {
		start := time.Now()
		if led := r.Led(t.Context(), names, netip.MustParseAddr("93.184.0.1")); len(led) > 0 {
			t.Errorf("led %v", led)
		}
		if took := time.Since(start); took > most {
			t.Errorf("took %v, want at most %v", took, most)
		}
	}
}
