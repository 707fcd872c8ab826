package resolve

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"sallyport/control/api"
)

// readHosts reads a hosts file (hosts(5)). Lines that make no sense are passed
// over, as libc does. localhost is there even without a file (RFC 6761 section 6.3).
func readHosts(path string) (map[string][]netip.Addr, error) {
	hosts := map[string][]netip.Addr{}
	file, err := os.Open(path)
	switch {
	case err == nil:
		defer file.Close()
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			addHosts(hosts, lines.Text())
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the hosts file: %w", err)
	}
	if hosts["localhost"] == nil {
		hosts["localhost"] = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	return hosts, nil
}

func addHosts(hosts map[string][]netip.Addr, line string) {
	line, _, _ = strings.Cut(line, "#")
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return
	}
	address, err := netip.ParseAddr(fields[0])
	if err != nil || address.Zone() != "" {
		return
	}
	for _, field := range fields[1:] {
		if name, err := api.NormalizeHost(field); err == nil {
			hosts[name] = append(hosts[name], address)
		}
	}
}
