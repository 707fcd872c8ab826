package control

import "regexp"

// MaxNameLength bounds the names of teams, vaults, credentials, agents and tokens.
const MaxNameLength = 63

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`)

// CheckName reports why name can't be the name of a what, if it can't.
func CheckName(what, name string) error {
	switch {
	case name == "":
		return Errorf(CodeInvalid, "the %s needs a name", what)
	case len(name) > MaxNameLength:
		return Errorf(CodeInvalid, "the %s's name is longer than %d characters", what, MaxNameLength)
	case !validName.MatchString(name):
		return Errorf(CodeInvalid, "the %s name %q: use lower-case letters, digits, '-', '_' and '.', with a letter or digit first and last", what, name)
	}
	return nil
}
