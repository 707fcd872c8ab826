package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// local are the sockets of this machine: those in the file system, the abstract ones,
// loopback, and what a hypervisor has.
func local(s settings) []attack {
	unixSocket := func(path string) func(*attack) error {
		return func(a *attack) error {
			conn, err := net.DialTimeout("unix", path, patience)
			if err != nil {
				return err
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			text, err := io.ReadAll(io.LimitReader(conn, 100))
			return answered(string(text), err)
		}
	}
	loopback := func(address string) func(*attack) error {
		return func(a *attack) error { return a.connect(netip.MustParseAddrPort(address), nil) }
	}
	all := []attack{
		{"socket in the file system", unixSocket(s.socket)},
		{"abstract socket", unixSocket("@" + s.socket)},
		{"loopback", loopback("127.0.0.1:4444")},
		{"all of loopback", loopback("127.9.9.9:4444")},
		{"IPv6 loopback", loopback("[::1]:4444")},
		{"the unspecified address", loopback("0.0.0.0:4444")},
		{"the unspecified IPv6 address", loopback("[::]:4444")},
	}
	for _, cid := range []uint32{unix.VMADDR_CID_HYPERVISOR, unix.VMADDR_CID_LOCAL, unix.VMADDR_CID_HOST} {
		all = append(all, attack{fmt.Sprint("vsock to ", cid), func(*attack) error {
			fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return nil // that there is one is enough
		}})
	}
	return all
}

// rules are what undoes the seal, if one may, and then a try of it.
func rules(s settings) []attack {
	commands := []string{
		"nft flush ruleset", "nft delete table inet sallyport", "nft add rule inet sallyport filter_output accept", "nft insert rule inet sallyport nat_output accept",
		"nft add table inet mine", "nft add chain inet sallyport filter_output { policy accept ; }",
		"iptables-legacy -F", "iptables-legacy -t nat -F", "iptables-legacy -P OUTPUT ACCEPT", "ip6tables-legacy -F", "ip6tables-legacy -t nat -F",
		"iptables-nft -F", "iptables-nft -I OUTPUT -j ACCEPT", "ip6tables-nft -F",
		"ip route replace default via 192.0.0.3 dev eth0", "ip route add 45.0.0.0/8 dev lo", "ip -6 route add 2a00::/16 dev lo", "ip route flush table local",
		"ip rule add pref 1 lookup 99", "ip addr add 45.45.45.45/8 dev lo", "ip addr flush dev lo", "ip neigh add 192.0.0.9 lladdr 02:00:00:00:00:09 dev eth0",
		"ip link set lo down", "ip link set lo netns 1", "ip link set eth0 netns 1", "ip link set eth0 down", "ip link del eth0", "ip link set lo mtu 68",
		"ip link add v0 type veth peer name v1", "ip link add d0 type dummy", "ip link add b0 type bridge", "ip link add link lo l0 type vlan id 7",
		"ip link add link eth0 m0 type macvlan", "ip link add link eth0 i0 type ipvlan", "ip link add x0 type vxlan id 7 dstport 4789", "ip link add g0 type gretap local 192.0.0.2 remote 45.1.1.1",
		"ip tunnel add t0 mode ipip remote 45.1.1.1", "ip tunnel add t1 mode sit remote 45.1.1.1", "ip link add w0 type wireguard", "ip link add f0 type vrf table 7", "ip tuntap add dev u0 mode tun",
		"ip xfrm policy add dir out action block", "ip netns add mine", "tc qdisc add dev lo root netem", "tc qdisc add dev lo clsact",
	}
	var all []attack
	for _, command := range commands {
		all = append(all, attack{command, func(a *attack) error {
			if s.control {
				return errors.New("not outside: it would change the listeners' own network")
			}
			done := shell(command)
			// Whether it may or not, it must not help.
			_ = a.datagram(netip.AddrPortFrom(a.four(), 4444), 0, nil)
			_ = a.datagram(netip.AddrPortFrom(a.six(), 4444), 0, nil)
			if err := a.connect(netip.AddrPortFrom(a.four(), 4444), nil); err == nil {
				return nil
			}
			return done
		}})
	}
	for _, path := range []string{"ipv4/ip_forward", "ipv4/conf/all/route_localnet", "ipv4/ping_group_range", "ipv4/ip_unprivileged_port_start", "ipv4/ip_nonlocal_bind", "ipv6/conf/all/forwarding", "netfilter/nf_conntrack_max", "core/bpf_jit_enable"} {
		all = append(all, attack{"write /proc/sys/net/" + path, func(*attack) error { return openFor("/proc/sys/net/"+path, unix.O_WRONLY) }})
	}
	return all
}

func shell(command string) error {
	words := strings.Split(command, " ")
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if path, err := exec.LookPath("/usr/sbin/" + words[0]); err == nil {
		cmd.Path, cmd.Err = path, nil
	}
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(output)))
	}
	return nil
}
