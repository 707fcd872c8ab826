package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// raw are packets of any protocol, also with heads written by hand.
func raw(settings) []attack {
	var all []attack
	for _, proto := range []int{1, 2, 4, 6, 8, 17, 33, 41, 46, 47, 50, 51, 58, 89, 94, 97, 103, 108, 112, 115, 132, 136, 137, 253, 254} {
		all = append(all, each(fmt.Sprint("IP protocol ", proto), func(a *attack, to netip.Addr) error {
			fd, sa, err := socketTo(netip.AddrPortFrom(to, 0), unix.SOCK_RAW, proto)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return sent(unix.Sendto(fd, append(head(proto), a.payload()...), 0, sa))
		})...)
	}
	for name, source := range map[string]string{"with our address": "192.0.0.2", "with another's address": "8.8.8.8", "from loopback": "127.0.0.1", "from where it goes": ""} {
		all = append(all, attack{"IP head by hand, " + name, func(a *attack) error {
			from := a.four()
			if source != "" {
				from = netip.MustParseAddr(source)
			}
			fd, sa, err := socketTo(netip.AddrPortFrom(a.four(), 0), unix.SOCK_RAW, unix.IPPROTO_RAW)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return sent(unix.Sendto(fd, a.packet(from), 0, sa))
		}})
	}
	return all
}

func sent(err error) error {
	if err == nil {
		return errSent
	}
	return err
}

// head looks enough like its protocol to be worth passing on.
func head(proto int) []byte {
	b := make([]byte, 20)
	switch proto {
	case unix.IPPROTO_ICMP:
		b[0] = 8 // echo request
	case unix.IPPROTO_ICMPV6:
		b[0] = 128 // echo request
	default:
		binary.BigEndian.PutUint16(b, 40000)
		binary.BigEndian.PutUint16(b[2:], 4444)
		b[12], b[13] = 5<<4, 1<<4 // of TCP: no options, ACK
	}
	return b
}

// packet is UDP over IPv4, by hand.
func (a *attack) packet(from netip.Addr) []byte {
	payload := a.payload()
	udp := binary.BigEndian.AppendUint16(nil, 40000)
	udp = binary.BigEndian.AppendUint16(udp, 4444)
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(payload)))
	udp = append(append(udp, 0, 0), payload...)
	ip := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	binary.BigEndian.PutUint16(ip[2:], uint16(20+len(udp)))
	ip = append(append(ip, from.AsSlice()...), a.four().AsSlice()...)
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return append(ip, udp...)
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

// frames go out on every link, below IP and past all rules about it.
func frames(settings) []attack {
	ethernet := func(kind uint16, body []byte) []byte {
		b := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9}, byte(kind>>8), byte(kind))
		b = append(b, body...)
		return append(b, make([]byte, max(0, 60-len(b)))...)
	}
	attacks := []attack{
		{"IPv4", func(a *attack) error {
			return onEach(ethernet(unix.ETH_P_IP, a.packet(netip.MustParseAddr("192.0.0.2"))))
		}},
		{"IPv4 with another's address", func(a *attack) error {
			return onEach(ethernet(unix.ETH_P_IP, a.packet(netip.MustParseAddr("8.8.8.8"))))
		}},
		{"IPv4 in a VLAN", func(a *attack) error {
			return onEach(ethernet(unix.ETH_P_8021Q, append([]byte{0, 7, 8, 0}, a.packet(netip.MustParseAddr("192.0.0.2"))...)))
		}},
		{"ARP", func(a *attack) error {
			arp := append([]byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 192, 0, 0, 2, 0, 0, 0, 0, 0, 0}, a.four().AsSlice()...)
			return onEach(ethernet(unix.ETH_P_ARP, arp))
		}},
		{"ARP that claims the gateway", func(a *attack) error {
			arp := append([]byte{0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 9, 192, 0, 0, 1, 2, 0, 0, 0, 0, 9}, a.four().AsSlice()...)
			return onEach(ethernet(unix.ETH_P_ARP, arp))
		}},
	}
	for _, kind := range []uint16{unix.ETH_P_IPV6, 0x88cc, 0x8863, 0x88a8, 0x8847, 0x9000, 0x88b5} {
		attacks = append(attacks, attack{fmt.Sprintf("type %#04x", kind), func(a *attack) error { return onEach(ethernet(kind, []byte(a.payload()))) }})
	}
	return attacks
}

// onEach puts a frame on every link but the loopback, which is nobody else's.
func onEach(frame []byte) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	refused := []error{errors.New("there is no link but the loopback")}
	for _, link := range links {
		if link.Flags&net.FlagLoopback != 0 {
			continue
		}
		err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}})
		if err == nil {
			return errSent
		}
		refused = append(refused, err)
	}
	return errors.Join(refused...)
}

// families are sockets of every address family but those that programs need. Each would
// be a way past the network, or kernel code that nobody here needs.
func families(settings) []attack {
	needed := map[int]bool{0: true, unix.AF_UNIX: true, unix.AF_INET: true, unix.AF_INET6: true, unix.AF_NETLINK: true, unix.AF_PACKET: true}
	var all []attack
	for family := range 46 {
		if needed[family] {
			continue
		}
		all = append(all, attack{fmt.Sprint("address family ", family), func(*attack) error {
			var refused error
			for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET, unix.SOCK_RAW} {
				fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
				if err == nil {
					return unix.Close(fd)
				}
				refused = err
			}
			return refused
		}})
	}
	return all
}
