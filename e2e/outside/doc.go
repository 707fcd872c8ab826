// Package outside holds the corpora escape and drain: ways out of a sandbox, and what
// becomes of it while what guards it dies. The program attacker tries
// them from within; the tests listen outside, where every address there is leads to
// them, and look at every frame that any link there carries.
//
//	go test ── Main ──▶ a network namespace, "outside", where all addresses are local
//	                      ├─ witness: listeners, a resolver, a tap on every link
//	                      ├─ control plane, upstreams, sidecar: on loopback only
//	                      ├─ attacker, as root: what shows that the attacks are real
//	                      └─ sandbox: attacker, as each kind of agent
//
// So a frame outside that is not between two addresses of loopback is somebody who got
// out, and none may be.
package outside
