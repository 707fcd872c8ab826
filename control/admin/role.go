package admin

import "sallyport/control"

// leastRoles says who may do what. An operation that is not here is refused to
// everybody.
var leastRoles = map[string]control.Role{
	"get-info":      control.RoleViewer,
	"list-services": control.RoleViewer,

	"list-teams":  control.RoleViewer, // of a token that is for one team, only that
	"create-team": control.RoleOwner,
	"get-team":    control.RoleViewer,
	"update-team": control.RoleAdmin,

	"get-quota": control.RoleViewer,
	"set-quota": control.RoleOwner,

	"list-vaults":  control.RoleViewer,
	"create-vault": control.RoleAdmin,
	"get-vault":    control.RoleViewer,
	"delete-vault": control.RoleAdmin,

	"list-credentials":    control.RoleViewer,
	"team-credentials":    control.RoleViewer,
	"create-credential":   control.RoleAdmin,
	"get-credential":      control.RoleViewer,
	"update-credential":   control.RoleAdmin,
	"rotate-credential":   control.RoleAdmin,
	"login-credential":    control.RoleAdmin,
	"discover-credential": control.RoleAdmin,
	"delete-credential":   control.RoleAdmin,
	"test-credential":     control.RoleAdmin,
	"end-overlap":         control.RoleAdmin,
	"refresh-credential":  control.RoleAdmin,

	"list-sources":  control.RoleViewer,
	"create-source": control.RoleAdmin,
	"get-source":    control.RoleViewer,
	"rotate-source": control.RoleAdmin,
	"delete-source": control.RoleAdmin,

	"list-agents":  control.RoleViewer,
	"create-agent": control.RoleAdmin,
	"get-agent":    control.RoleViewer,
	"delete-agent": control.RoleAdmin,
	"pin-vault":    control.RoleAdmin,
	"unpin-vault":  control.RoleAdmin,
	"get-policy":   control.RoleViewer,
	"set-policy":   control.RoleAdmin,
	"explain":      control.RoleViewer,

	"list-sandboxes": control.RoleViewer,
	"create-sandbox": control.RoleMember,
	"get-sandbox":    control.RoleViewer,
	"delete-sandbox": control.RoleMember,

	"list-approvals":   control.RoleViewer,
	"get-approval":     control.RoleViewer,
	"approve-approval": control.RoleMember,
	"deny-approval":    control.RoleMember,

	"list-events":   control.RoleViewer,
	"follow-events": control.RoleViewer,
	"verify-events": control.RoleViewer,

	"get-login":          control.RoleViewer, // open to all
	"start-device-login": control.RoleViewer, // open to all
	"create-session":     control.RoleViewer, // open to all

	"create-token-session": control.RoleViewer,

	"list-sessions":  control.RoleViewer, // one's own; everybody's for an owner of every team
	"delete-session": control.RoleViewer, // the same

	"list-tokens":         control.RoleOwner,
	"create-token":        control.RoleOwner,
	"delete-token":        control.RoleOwner,
	"rotate-token":        control.RoleOwner,
	"list-global-tokens":  control.RoleOwner,
	"create-global-token": control.RoleOwner,
	"delete-global-token": control.RoleOwner,
	"rotate-global-token": control.RoleOwner,

	"get-keys":    control.RoleOwner,
	"rotate-keys": control.RoleOwner,
	"get-ca":      control.RoleOwner,
	"rotate-ca":   control.RoleOwner,
}

// everyTeam are the operations that no token of one team may do.
var everyTeam = map[string]bool{
	"create-team": true, "set-quota": true, "list-global-tokens": true, "create-global-token": true, "delete-global-token": true, "rotate-global-token": true,
	"get-keys": true, "rotate-keys": true, "get-ca": true, "rotate-ca": true,
}

// openToAll are the operations that no token is needed for: they are how people get one.
var openToAll = map[string]bool{"get-login": true, "start-device-login": true, "create-session": true}

// rank orders the roles; 0 is none of them.
func rank(r control.Role) int {
	switch r {
	case control.RoleViewer:
		return 1
	case control.RoleMember:
		return 2
	case control.RoleAdmin:
		return 3
	case control.RoleOwner:
		return 4
	}
	return 0
}
