package main

import (
	"fmt"

	"sallyport/control/forward"
)

// target is a flag that says where audit events go.
type target string

// targets reads them, and refuses two that would share a place.
func targets(flags []target) ([]forward.Target, error) {
	var all []forward.Target
	seen := make(map[string]bool)
	for _, text := range flags {
		t, err := forward.ParseTarget(string(text))
		if err != nil {
			return nil, fmt.Errorf("--audit-forward: %w", err)
		}
		if seen[t.Name] {
			return nil, fmt.Errorf("--audit-forward: two are named %s: give each a name, ?name=NAME", t.Name)
		}
		seen[t.Name] = true
		all = append(all, t)
	}
	return all, nil
}

// receivers are the names of targets.
func receivers(targets []forward.Target) (names []string) {
	for _, t := range targets {
		names = append(names, t.Name)
	}
	return names
}
