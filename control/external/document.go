package external

import (
	"bytes"
	"encoding/json"
	"fmt"

	"sallyport/control"
)

// Document is a secret as a store has it.
type Document struct {
	Whole   control.Secret            // nil: the store has fields only
	Fields  map[string]control.Secret // the texts among its fields; nil: it has none
	Version string                    // the store's own name for this state of it; "": none
}

// Wipe overwrites it.
func (d *Document) Wipe() {
	d.Whole.Wipe()
	for _, value := range d.Fields {
		value.Wipe()
	}
}

// holds reports whether text is in it.
func (d *Document) holds(text string) bool {
	for _, value := range d.Fields {
		if bytes.Contains(value, []byte(text)) {
			return true
		}
	}
	return bytes.Contains(d.Whole, []byte(text))
}

// pick gives what p names, which shares no memory with d.
func (d *Document) pick(p control.Place) (control.Secret, error) {
	if len(p.Fields) == 0 {
		if d.Whole == nil {
			return nil, control.Errorf(control.CodeExchange, "has several fields at %s: say which, as %s:%s#FIELD", p.Path, p.Source, p.Path)
		}
		return bytes.Clone(d.Whole), nil
	}
	object := make(map[string]string, len(p.Fields))
	for _, f := range p.Fields {
		value, found := d.Fields[f.Field]
		if !found {
			return nil, control.Errorf(control.CodeExchange, "has no text %q at %s", f.Field, p.Path)
		}
		object[f.Name] = string(value)
	}
	if field, alone := p.Alone(); alone {
		return bytes.Clone(d.Fields[field]), nil
	}
	written, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("write the fields: %w", err)
	}
	return written, nil
}

// texts are the texts among the values of a JSON object, and its numbers as they stand.
func texts(object map[string]any) map[string]control.Secret {
	fields := make(map[string]control.Secret, len(object))
	for name, value := range object {
		switch v := value.(type) {
		case string:
			fields[name] = control.Secret(v)
		case json.Number:
			fields[name] = control.Secret(v)
		}
	}
	return fields
}
