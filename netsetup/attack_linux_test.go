package netsetup_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"testing"

	"sallyport/netsetup/netnstest"

	"golang.org/x/sys/unix"
)

// attack is what a program in the sandbox tries, from the mild to the violent.
// What it must not be able to do fails here; what gets out is seen by TestEscape.
func attack(t *testing.T, user netnstest.User) {
	owner := user == netnstest.Owner
	t.Run("TCP", func(t *testing.T) {
		for _, host := range outside {
			for _, port := range []uint16{1, 22, 53, 80, 443, 853, 3128, 8443, 65535} {
				mustNotGreet(t, addrPort(host, port))
			}
		}
	})
	t.Run("datagrams are refused at once", func(t *testing.T) { attackDatagrams(t) })
	t.Run("bound to a link", func(t *testing.T) { attackBound(t) })
	t.Run("raw sockets", func(t *testing.T) { attackRaw(t, owner) })
	t.Run("packet sockets", func(t *testing.T) { attackPacket(t, owner) })
	t.Run("the worker's ports", func(t *testing.T) { attackPorts(t) })
	t.Run("a namespace of its own", func(t *testing.T) {
		out, err := exec.Command("unshare", "--net", "sh", "-c", "ip link set lo up; ip -o link | grep -v ' lo:'").CombinedOutput()
		if err == nil {
			t.Errorf("a new namespace has links: %s", out)
		}
	})
	for _, command := range []string{
		"ip route replace default dev sallyport0",
		"ip route add " + outside4 + " dev lo",
		"ip -6 route add " + outside6 + " dev eth0",
		"ip rule add pref 1 lookup 99",
		"ip link add out0 type veth peer name out1",
		"ip addr add 203.0.113.8/24 dev sallyport0",
		"nft add rule inet sallyport filter_output accept",
		"nft add table inet mine",
		"nft flush ruleset",
		"iptables-legacy -F",
		"iptables-legacy -t nat -F",
		"ip6tables-legacy -F",
		"ip6tables-legacy -t nat -F",
		"ip link set sallyport0 down",
		"ip link del eth0",
	} {
		t.Run(command, func(t *testing.T) {
			out, err := exec.Command("sh", "-c", command).CombinedOutput()
			if !owner && err == nil {
				t.Errorf("the sandbox may do that: %s", out)
			}
			// The owner may: it must not help. Connections that no rule takes
			// are lost on the link, so here only datagrams are sent.
			for _, host := range outside {
				for _, port := range []uint16{53, 443, 4444} {
					sendUDP(addrPort(host, port))
				}
				if !owner {
					mustNotGreet(t, addrPort(host, 443))
				}
			}
			attackRaw(t, owner)
			attackPacket(t, owner)
		})
	}
}

// attackDatagrams sends to every kind of address. A connected socket is told of
// the refusal by its next call.
func attackDatagrams(t *testing.T) {
	refusals := map[uint16][]error{
		443: {unix.ECONNREFUSED},
		0:   {unix.EHOSTUNREACH, unix.EACCES}, // IPv4, IPv6: prohibited
	}
	for _, host := range outside {
		for _, port := range []uint16{1, 123, 443, 444, 4444, 51820, 65535} {
			c, err := net.Dial("udp", addrPort(host, port).String())
			if err != nil {
				t.Fatal(err)
			}
			_, first := c.Write([]byte(letter))
			_, second := c.Write([]byte(letter))
			c.Close()
			want := refusals[port]
			if want == nil {
				want = refusals[0]
			}
			if first == nil || !anyOf(second, want) {
				t.Errorf("UDP to %s port %d: %v, then %v; want any of %v", host, port, first, second, want)
			}
		}
	}
	for _, addr := range []string{"255.255.255.255:9", "224.0.0.251:5353", "[ff02::fb%eth0]:5353", "[fe80::1%eth0]:9", "192.0.0.1:9", "192.0.0.7:9"} {
		if err := broadcast(addr); err == nil {
			t.Errorf("UDP to %s was sent", addr)
		}
	}
}

func anyOf(err error, targets []error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// broadcast sends from an unconnected socket that may.
func broadcast(addr string) error {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return err
	}
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.WriteTo([]byte(letter), to)
	return err
}

// attackBound binds to each link, which needs no privilege.
func attackBound(t *testing.T) {
	for _, link := range []string{"lo", "eth0", "sallyport0"} {
		for _, host := range outside {
			fd, to := socketTo(t, netip.MustParseAddr(host), 4444, unix.SOCK_DGRAM, 0)
			if err := unix.BindToDevice(fd, link); err != nil {
				t.Errorf("bind to %s: %v", link, err)
			}
			if err := unix.Sendto(fd, []byte(letter), 0, to); err == nil {
				t.Errorf("UDP to %s bound to %s was sent", host, link)
			}
			unix.Close(fd)
		}
	}
}

// socketTo opens a socket of the family of addr.
func socketTo(t *testing.T, addr netip.Addr, port int, typ, proto int) (int, unix.Sockaddr) {
	t.Helper()
	fd, to, err := trySocketTo(addr, port, typ, proto)
	if err != nil {
		t.Fatal(err)
	}
	return fd, to
}

func trySocketTo(addr netip.Addr, port int, typ, proto int) (int, unix.Sockaddr, error) {
	if addr.Is4() {
		fd, err := unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, proto)
		return fd, &unix.SockaddrInet4{Addr: addr.As4(), Port: port}, err
	}
	fd, err := unix.Socket(unix.AF_INET6, typ|unix.SOCK_CLOEXEC, proto)
	return fd, &unix.SockaddrInet6{Addr: addr.As16(), Port: port}, err
}

// attackRaw sends every kind of IP packet by hand: pings, TCP segments of
// connections that never were, SCTP, tunnels. A sandbox has no raw sockets.
func attackRaw(t *testing.T, owner bool) {
	protocols := []int{
		unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP,
		unix.IPPROTO_UDPLITE, unix.IPPROTO_GRE, unix.IPPROTO_IPIP, unix.IPPROTO_ESP, 253,
	}
	for _, host := range outside {
		for _, proto := range protocols {
			fd, to, err := trySocketTo(netip.MustParseAddr(host), 0, unix.SOCK_RAW, proto)
			if !owner && err == nil {
				t.Errorf("a raw socket of protocol %d was opened", proto)
			}
			if err == nil {
				unix.Sendto(fd, rawPayload(proto), 0, to)
				unix.Close(fd)
			}
		}
		for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
			if fd, to, err := trySocketTo(netip.MustParseAddr(host), 443, typ, unix.IPPROTO_SCTP); err == nil {
				if err := unix.Connect(fd, to); err == nil {
					t.Errorf("SCTP to %s was connected", host)
				}
				unix.Close(fd)
			}
		}
	}
}

// rawPayload looks enough like its protocol to be worth passing on.
func rawPayload(proto int) []byte {
	b := make([]byte, 20, 40)
	switch proto {
	case unix.IPPROTO_ICMP:
		b[0] = 8 // echo request
	case unix.IPPROTO_ICMPV6:
		b[0] = 128 // echo request
	default:
		binary.BigEndian.PutUint16(b, 40000)
		binary.BigEndian.PutUint16(b[2:], 443)
		b[12], b[13] = 5<<4, 1<<4 // of TCP: no options, ACK
	}
	return append(b, letter...)
}

// attackPacket puts frames on every link, past all rules.
func attackPacket(t *testing.T, owner bool) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if !owner {
		if err == nil {
			t.Error("a packet socket was opened")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: link.Index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
		unix.Sendto(fd, ethernet(t, link), 0, to)
	}
}

// ethernet is a UDP packet to the outside in a frame for the other end of the pair.
func ethernet(t *testing.T, link net.Interface) []byte {
	t.Helper()
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9}, 0x08, 0x00)
	udp := binary.BigEndian.AppendUint16(nil, 40000)
	udp = binary.BigEndian.AppendUint16(udp, 443)
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(letter)))
	udp = append(append(udp, 0, 0), letter...)
	ip := []byte{0x45, 0, 0, byte(20 + len(udp)), 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 192, 0, 0, 2}
	ip = append(ip, netip.MustParseAddr(outside4).AsSlice()...)
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return append(append(frame, ip...), udp...)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// attackPorts tries to take over what is sent to the worker, by a socket with a
// more specific address.
func attackPorts(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1", "192.0.0.2", "fd73:616c:6c79::2", "0.0.0.0", "::"} {
		for _, at := range []struct{ port, typ int }{{15001, unix.SOCK_STREAM}, {15053, unix.SOCK_STREAM}, {15053, unix.SOCK_DGRAM}} {
			fd, sa := socketTo(t, netip.MustParseAddr(host), at.port, at.typ, 0)
			for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
					t.Fatal(err)
				}
			}
			if err := takeOver(fd, sa, at.typ); err == nil {
				t.Errorf("%s port %d (type %d) was taken over", host, at.port, at.typ)
			}
			unix.Close(fd)
		}
	}
}

func takeOver(fd int, sa unix.Sockaddr, typ int) error {
	if err := unix.Bind(fd, sa); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if typ == unix.SOCK_STREAM {
		return unix.Listen(fd, 1)
	}
	return nil
}
