package capture

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"
)

// maxDepth bounds how deeply values are nested.
const maxDepth = 32

// value is one of a JSON document.
type value struct {
	pointer    string // RFC 6901
	start, end int    // in the document
	text       string // of a string or number
	isText     bool   // it is a string
	null       bool
}

// walker reads a document in one way or not at all.
type walker struct {
	document []byte
	decoder  *json.Decoder
	wanted   []string // pointers
	visit    func(value)
}

// elsewhere is the pointer of all that no wanted one begins with. It is none itself.
// Names may be so long that to put them together for each value takes for ever.
const elsewhere = "-"

var errNoJSON = &UnreadableError{"it is no JSON that everybody reads alike"}

// walk visits every value that may be one of the wanted pointers', what it holds
// before itself. Members that differ only in case are refused:
// which of them a client takes nobody knows.
func walk(document []byte, wanted []string, visit func(value)) error {
	w := &walker{document: document, decoder: json.NewDecoder(bytes.NewReader(document)), wanted: wanted, visit: visit}
	w.decoder.UseNumber()
	if err := w.value("", 0); err != nil {
		return err
	}
	if _, err := w.decoder.Token(); err != io.EOF {
		return errNoJSON
	}
	return nil
}

// next reads a token and says where it begins.
func (w *walker) next() (token json.Token, start int, err error) {
	start = int(w.decoder.InputOffset())
	for start < len(w.document) && strings.IndexByte(" \t\r\n,:", w.document[start]) >= 0 {
		start++
	}
	if token, err = w.decoder.Token(); err != nil {
		return nil, 0, errNoJSON
	}
	return token, start, nil
}

func (w *walker) value(pointer string, depth int) error {
	token, start, err := w.next()
	if err != nil {
		return err
	}
	if depth > maxDepth {
		return errNoJSON
	}
	v := value{pointer: pointer, start: start}
	switch t := token.(type) {
	case json.Delim:
		if err := w.within(t, pointer, depth); err != nil {
			return err
		}
	case string:
		v.text, v.isText = t, true
	case json.Number:
		v.text = t.String()
	case nil:
		v.null = true
	}
	if v.end = int(w.decoder.InputOffset()); pointer != elsewhere {
		w.visit(v)
	}
	return nil
}

// within reads what an object or array holds, and its end.
func (w *walker) within(opening json.Delim, pointer string, depth int) error {
	members := make(map[string]bool)
	for i := 0; w.decoder.More(); i++ {
		name := strconv.Itoa(i)
		if opening == '{' {
			token, _, err := w.next()
			if err != nil {
				return err
			}
			name = token.(string) // Decoder gives nothing else here
			folded := strings.ToLower(name)
			if members[folded] {
				return errNoJSON
			}
			members[folded] = true
		}
		if err := w.value(w.below(pointer, name), depth+1); err != nil {
			return err
		}
	}
	_, _, err := w.next() // the closing one
	return err
}

// below is the pointer of a member or element.
func (w *walker) below(pointer, name string) string {
	if pointer == elsewhere || !slices.ContainsFunc(w.wanted, func(p string) bool { return strings.HasPrefix(p, pointer+"/") }) {
		return elsewhere
	}
	pointer += "/" + strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
	if slices.ContainsFunc(w.wanted, func(p string) bool { return p == pointer || strings.HasPrefix(p, pointer+"/") }) {
		return pointer
	}
	return elsewhere
}
