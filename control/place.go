package control

import (
	"regexp"
	"slices"
	"strings"
)

// Place is where a credential's secret lies in a source. Its text form, in JSON and on
// the command line, is
//
//	SOURCE:PATH                      the secret as a whole
//	SOURCE:PATH#FIELD                the text of one of its fields
//	SOURCE:PATH#FIELD,NAME=FIELD…    a JSON object of texts, for kinds with more than one
type Place struct {
	Source string // name, in the credential's vault
	Path   string
	Fields []PlaceField
}

// PlaceField is a field of a secret, and how it is named in the object.
type PlaceField struct{ Name, Field string }

const maxPlace = 1024 // bytes

var (
	// What Vault, AWS and 1Password name secrets by. No %, ? or #, which would say
	// something else in a URL.
	placePath  = regexp.MustCompile(`^/?[A-Za-z0-9][A-Za-z0-9 /_+=.@:~!-]*$`)
	placeField = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9 _.@:/-]*$`)
)

// ParsePlace reads a place's text form.
func ParsePlace(text string) (Place, error) {
	var p Place
	source, rest, found := strings.Cut(text, ":")
	path, fields, hasFields := strings.Cut(rest, "#")
	switch {
	case len(text) > maxPlace:
		return p, Errorf(CodeInvalid, "the place of the secret is longer than %d bytes", maxPlace)
	case !found || path == "":
		return p, Errorf(CodeInvalid, "the place %q: it is SOURCE:PATH or SOURCE:PATH#FIELD, as in vault:kv/data/stripe#api_key", text)
	case CheckName("source", source) != nil:
		return p, Errorf(CodeInvalid, "the place %q: %v", text, CheckName("source", source))
	case !placePath.MatchString(path):
		return p, Errorf(CodeInvalid, "the place %q: a path is of letters, digits, spaces and / _ + = . @ : ~ ! -", text)
	case slices.ContainsFunc(strings.Split(strings.TrimPrefix(path, "/"), "/"), func(s string) bool { return s == "" || s == "." || s == ".." }):
		return p, Errorf(CodeInvalid, "the place %q: a part of the path is empty, . or ..", text)
	}
	p.Source, p.Path = source, path
	if !hasFields {
		return p, nil
	}
	for one := range strings.SplitSeq(fields, ",") {
		name, field, renamed := strings.Cut(one, "=")
		if !renamed {
			field = name
		}
		if !placeField.MatchString(name) || !placeField.MatchString(field) {
			return Place{}, Errorf(CodeInvalid, "the place %q: a field is FIELD or NAME=FIELD, of letters, digits, spaces and _ . @ : / -", text)
		}
		if slices.ContainsFunc(p.Fields, func(f PlaceField) bool { return f.Name == name }) {
			return Place{}, Errorf(CodeInvalid, "the place %q: the field %s is there twice", text, name)
		}
		p.Fields = append(p.Fields, PlaceField{name, field})
	}
	return p, nil
}

// Alone is the field whose text is the secret; none if it is a whole, or an object.
func (p Place) Alone() (field string, alone bool) {
	if len(p.Fields) == 1 && p.Fields[0].Name == p.Fields[0].Field {
		return p.Fields[0].Field, true
	}
	return "", false
}

func (p Place) String() string {
	text := p.Source + ":" + p.Path
	for i, f := range p.Fields {
		if i == 0 {
			text += "#"
		} else {
			text += ","
		}
		text += f.Name
		if f.Name != f.Field {
			text += "=" + f.Field
		}
	}
	return text
}

// MarshalText implements encoding.TextMarshaler.
func (p Place) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Place) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePlace(string(text))
	return err
}
