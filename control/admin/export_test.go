package admin

import "sallyport/control"

// LeastRoles and EveryTeam are the tables of role.go.
func LeastRoles() map[string]control.Role { return leastRoles }
func EveryTeam() map[string]bool          { return everyTeam }
