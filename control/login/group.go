package login

import (
	"bytes"
	"encoding/json"
	"strings"

	"sallyport/control"
)

// Mapping gives whoever is in a group a role.
type Mapping struct {
	Group string // as the issuer writes it, to the letter
	Grant control.Grant
}

// ParseMapping reads "GROUP=TEAM:ROLE"; TEAM "*" is every team. A group's name may
// have "=" and ":" in it.
func ParseMapping(text string) (Mapping, error) {
	wrong := control.Errorf(control.CodeInvalid, "%q is not GROUP=TEAM:ROLE, with a role of owner, admin, member or viewer, and * for every team", text)
	at := strings.LastIndex(text, "=")
	if at < 1 {
		return Mapping{}, wrong
	}
	m := Mapping{Group: text[:at]}
	team, role, found := strings.Cut(text[at+1:], ":")
	m.Grant = control.Grant{Team: team, Role: control.Role(role)}
	switch m.Grant.Role {
	case control.RoleOwner, control.RoleAdmin, control.RoleMember, control.RoleViewer:
	default:
		return Mapping{}, wrong
	}
	if team == "*" {
		m.Grant.Team = ""
	} else if !found || control.CheckName("team", team) != nil {
		return Mapping{}, wrong
	}
	return m, nil
}

const (
	maxGroups    = 2000 // of a person
	maxGroupName = 512  // bytes
)

// groups reads a claim of groups: a name, a list of names, or of objects as SCIM has
// them (RFC 7643 section 4.1.2), whose "value" counts; "display" is what people may
// call a group as they like, and counts only where there is no value. A name is never
// taken apart.
func groups(claim json.RawMessage) ([]string, error) {
	wrong := control.Errorf(control.CodeForbidden, "the OIDC issuer sends your groups in a form that is not understood: ask whoever runs the control plane")
	claim = bytes.TrimSpace(claim)
	if len(claim) == 0 || bytes.Equal(claim, []byte("null")) {
		return nil, nil
	}
	if claim[0] != '[' {
		claim = append(append([]byte{'['}, claim...), ']')
	}
	var items []json.RawMessage
	if json.Unmarshal(claim, &items) != nil || len(items) > maxGroups {
		return nil, wrong
	}
	names := make([]string, 0, len(items))
	for _, item := range items {
		name, ok := groupName(item)
		if !ok {
			return nil, wrong
		}
		names = append(names, name)
	}
	return names, nil
}

func groupName(item json.RawMessage) (name string, ok bool) {
	if json.Unmarshal(item, &name) != nil {
		var object struct {
			Value   *string `json:"value"`
			Display *string `json:"display"`
		}
		if json.Unmarshal(item, &object) != nil {
			return "", false
		}
		switch {
		case object.Value != nil:
			name = *object.Value
		case object.Display != nil:
			name = *object.Display
		}
	}
	return name, name != "" && len(name) <= maxGroupName
}

// grants are the roles of a person's groups, one for each team.
func (i *Issuer) grants(email string, said claims) ([]control.Grant, error) {
	names, err := groups(said[i.GroupsClaim])
	if err != nil {
		return nil, err
	}
	in := make(map[string]bool, len(names))
	for _, name := range names {
		in[name] = true
	}
	var grants []control.Grant
	for _, m := range i.Mappings {
		if in[m.Group] {
			grants = append(grants, m.Grant)
		}
	}
	if len(grants) == 0 {
		return nil, control.Errorf(control.CodeForbidden, "%s is in no group that has a role here: ask whoever runs the control plane which group that is, get into it, then log in again", email)
	}
	return grants, nil
}
