// Package api is the contract between the control plane and its sidecars:
// the messages of sidecar.proto, the Connect client and handler generated from
// them, and the few definitions that both sides must read alike.
package api

//go:generate protoc -I. --go_out=. --go_opt=paths=source_relative --connect-go_out=. --connect-go_opt=paths=source_relative,package_suffix= sidecar.proto
