// Package smuggle tries to smuggle requests past the sidecar. It sends what
// vectors makes to the parts that every HTTP/1 request of a sandbox passes, with
// real servers behind them, and holds three accounts against each other: what the
// sidecar recorded, what it wrote to its upstream connections, and what the
// server's application saw.
//
//	vector ─ strict ─ proxy ─ tap ─ nginx, squid, … ─ recorder
//	                    │      │                         │
//	                 record   wire                     sight
//
// The other way round, upstreams that answer what they shouldn't try to have one
// client see another's response.
package smuggle
