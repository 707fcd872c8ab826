// Package netsetup seals network namespaces: it makes one, or takes one that a
// runtime made, and leaves it a single way out, the sockets this package opened
// inside. It knows no HTTP and no vaults.
//
//	┌ sealed namespace ───────────────────────────────────────────────┐
//	│                                                                 │
//	│  program ── TCP to anywhere ──┐                                 │
//	│     │                         ├─ rules on output ─▶ lo          │
//	│     ├────── DNS to anywhere ──┘                     │           │
//	│     │                                               ▼           │
//	│     └────── all else ─▶ rejected at once      :15001  :15053 ───┼─ descriptors ─▶ worker,
//	│                                                                 │                 outside
//	│  eth0 ═══ sallyport0   both ends of the veth pair are in here:  │
//	│                        its default route leads nowhere          │
//	└─────────────────────────────────────────────────────────────────┘
//
// A socket belongs for good to the namespace it was made in. So the worker can
// live, and dial, outside while it accepts from inside, and there are two walls:
// behind the rules there is nothing, and where the program's user namespace is a
// child of the one that owns the network namespace, even its root can't touch
// rules, routes or links.
//
// The rules accept what goes to an address of the namespace itself and nothing
// else. They don't ask for the connection's state, which a program could craft,
// nor for the interface, which netfilter doesn't look up again after a redirect.
package netsetup
