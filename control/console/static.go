package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"time"

	"sallyport/control"
)

//go:embed static
var static embed.FS

// file is one that browsers load.
type file struct {
	mediaType string
	etag      string
	content   []byte
}

// mediaTypes are those of all files, which must not depend on the machine's tables.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// load reads what is embedded, by the name it is asked for with.
func load() (map[string]file, error) {
	entries, err := static.ReadDir("static")
	if err != nil {
		return nil, fmt.Errorf("read the console's files: %w", err)
	}
	files := make(map[string]file)
	for _, e := range entries {
		content, err := static.ReadFile("static/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("read the console's files: %w", err)
		}
		mediaType, found := mediaTypes[path.Ext(e.Name())]
		if !found {
			return nil, fmt.Errorf("read the console's files: %s has no known type", e.Name())
		}
		sum := sha256.Sum256(content)
		files[e.Name()] = file{mediaType, `"` + hex.EncodeToString(sum[:12]) + `"`, content}
	}
	// Browsers are sent to the others with what the page takes from the address.
	for _, name := range []string{"", callback, authorized} {
		files[name] = files["index.html"]
	}
	return files, nil
}

func (c *Console) static(w http.ResponseWriter, r *http.Request, name string) {
	f, found := c.files[name]
	switch {
	case !found:
		refuse(w, http.StatusNotFound, control.CodeNotFound, "the console has no such page")
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, control.CodeInvalid, "this path has only GET, HEAD")
		return
	}
	w.Header().Set("Content-Type", f.mediaType)
	w.Header().Set("ETag", f.etag)
	if name != callback && name != authorized { // whose address has a code in it
		w.Header().Set("Cache-Control", "no-cache") // asked for anew, and sent only when it has changed
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
