package exchange

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"sallyport/control"
)

// readFields reads a secret that is a JSON object of texts with exactly the names
// of fields; one that ends in ? may be missing. Its errors never quote the secret.
func readFields(secret control.Secret, fields ...string) (map[string]control.Secret, error) {
	want := func(problem string) error {
		return control.Errorf(control.CodeInvalid, "the secret %s; it is a JSON object with the texts %s (? may be missing)", problem, strings.Join(fields, ", "))
	}
	decoder := json.NewDecoder(bytes.NewReader(secret))
	var raw map[string]*string
	if err := decoder.Decode(&raw); err != nil || raw == nil {
		return nil, want("is none")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, want("goes on after its JSON object")
	}
	read := make(map[string]control.Secret, len(fields))
	for _, field := range fields {
		name, optional := strings.CutSuffix(field, "?")
		value := raw[name]
		delete(raw, name)
		switch {
		case value != nil && *value != "":
			read[name] = control.Secret(*value)
		case !optional:
			return nil, want("lacks " + name)
		}
	}
	if len(raw) > 0 { // not named: a slip may have put the secret in its place
		return nil, want("has a field too many")
	}
	return read, nil
}

// wipeFields overwrites what readFields gave.
func wipeFields(read map[string]control.Secret) {
	for _, value := range read {
		value.Wipe()
	}
}

// writeFields is the inverse of readFields.
func writeFields(fields map[string]control.Secret) control.Secret {
	texts := make(map[string]string, len(fields))
	for name, value := range fields {
		texts[name] = string(value)
	}
	written, _ := json.Marshal(texts) // of texts: never fails
	return written
}
