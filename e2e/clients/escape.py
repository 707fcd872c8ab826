"""Usage: escape.py ADDRESS TCP-PORT UDP-PORT SOCKET: tries every way out that comes to mind.

Prints a line for each: its name and what it led to, "outside" when it reached the
listeners outside.
"""

import ctypes
import os
import socket
import struct
import subprocess
import sys

address, tcp, udp, path = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
BANNER = b"outside"


def shown(answer):
    """The sidecar answers on its ports too, as an HTTP server: that is no way out."""
    return "outside" if BANNER in answer else f"{answer[:20]}"


def stream(target, family=socket.AF_INET, payload=b"hello\n"):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(5)
        s.connect(target)
        if payload:
            s.sendall(payload)
        return shown(s.recv(64))


def datagram(target, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(2)
        s.connect(target)
        s.send(b"hello")
        return shown(s.recv(64))


def ping():
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
        s.settimeout(2)
        s.sendto(struct.pack("!BBHHH", 8, 0, 0xF7FE, 1, 0), (address, 0))
        return "outside" if s.recvfrom(256)[1][0] == address and s else "?"


def packet():
    """A UDP datagram by hand, past any rule for ordinary sockets."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        body = b"by hand"
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(body), 1, 0, 64, 17, 0, b"\0" * 4, socket.inet_aton(address))
        s.sendto(head + struct.pack("!HHHH", 4000, udp, 8 + len(body), 0) + body, (address, 0))
        return "sent"


def link():
    """The same below IP, on every interface there is."""
    for _, name in socket.if_nameindex():
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
            s.bind((name, 0x0800))
            s.send(b"\xff" * 12 + b"\x08\x00" + b"\x45" + b"\0" * 45)
    return "sent"


def entered(pid):
    """The network namespace of another process."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{pid}/ns/net") as f:
        if libc.setns(f.fileno(), 0x40000000):
            raise OSError(ctypes.get_errno(), "setns")
    return stream((address, tcp))


def fresh():
    """A network namespace of our own: at best one with nothing in it."""
    return subprocess.run(["unshare", "--net", sys.executable, __file__, *sys.argv[1:], "only-tcp"], capture_output=True, text=True, timeout=20).stdout


def unsealed():
    """Whatever root can do to the rules and links of this namespace."""
    for command in ("nft flush ruleset", "iptables -t nat -F", "ip6tables -t nat -F", "iptables -F", "ip route flush table local",
                    "ip link add name dummy9 type dummy", "ip link set eth0 up", "ip route add default dev eth0",
                    "ip addr add 10.99.0.2/24 dev eth0", "sysctl -w net.ipv4.ip_forward=1"):
        subprocess.run(command.split(), capture_output=True)
    return stream((address, tcp))


def ptraced():
    """PID 1 of this namespace, which is not ours."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, 1, 0, 0):
        raise OSError(ctypes.get_errno(), "ptrace")
    return "outside"


attempts = {
    "tcp": lambda: stream((address, tcp)),
    "tcp on 443 without TLS": lambda: stream((address, 443)),
    "tcp to loopback": lambda: stream(("127.0.0.1", tcp)),
    "tcp to loopback, v6": lambda: stream(("::1", tcp), socket.AF_INET6),
    "tcp to a mapped address": lambda: stream(("::ffff:" + address, tcp), socket.AF_INET6),
    "udp": lambda: datagram((address, udp)),
    "udp 443": lambda: datagram((address, 443)),
    "udp to loopback": lambda: datagram(("127.0.0.1", udp)),
    "udp, v6": lambda: datagram(("2001:db8::1", udp), socket.AF_INET6),
    "icmp": ping,
    "raw ip": packet,
    "link layer": link,
    "abstract socket": lambda: stream("\0" + path, socket.AF_UNIX),
    "socket in the file system": lambda: stream(path, socket.AF_UNIX),
    "vsock": lambda: stream((2, tcp), 40),
    "namespace of process 1": lambda: entered(1),
    "namespace of the parent": lambda: entered(os.getppid()),
    "trace process 1": ptraced,
    "fresh namespace": fresh,
    "after flushing": unsealed,
}
if sys.argv[-1] == "only-tcp":
    attempts = {"tcp": attempts["tcp"]}
for name, attempt in attempts.items():
    try:
        result = attempt()
    except Exception as error:  # every failure is what we want to see
        result = f"{type(error).__name__}: {error}"
    print(f"{name}: {' '.join(str(result).split())}", flush=True)
