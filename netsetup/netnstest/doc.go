// Package netnstest runs tests in namespaces of their own, so that they need no
// root and can't harm the machine's network.
//
//	go test ─▶ test binary ── Main ──▶ itself again in new network and mount
//	                                   namespaces (and a user namespace, unless
//	                                   it is root): lo up, a private /run
//	                                      │
//	                                      ├─ Reenter ──▶ itself again in a sealed namespace
//	                                      └─ Unprivileged ──▶ all of it again as nobody
//
// What can't be set up is a failure, never a skipped test.
package netnstest
