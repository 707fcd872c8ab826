package admin

import (
	"net/http"
	"path"
	"strings"

	"sallyport/control"
)

// methods are those that a path of ours may have.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// plainPaths answers what a ServeMux would redirect: a token must not be sent along,
// and a body would be lost.
func plainPaths(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.Path; path.Clean(p) != p && path.Clean(p)+"/" != p {
			writeProblem(w, newProblem(http.StatusNotFound, control.CodeNotFound, "there is no such path: it has empty segments, or dots; /openapi.json lists them"))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// unrouted answers what no route is for: by the methods that the path has, if it has any.
func unrouted(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		for _, method := range methods {
			other := r.Clone(r.Context())
			other.Method = method
			if _, pattern := mux.Handler(other); pattern != "/" && pattern != "" {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 {
			writeProblem(w, newProblem(http.StatusNotFound, control.CodeNotFound, "there is no such path; /openapi.json lists them"))
			return
		}
		p := newProblem(http.StatusMethodNotAllowed, control.CodeInvalid, "this path has only %s", strings.Join(allowed, ", "))
		p.header = http.Header{"Allow": {strings.Join(allowed, ", ")}}
		writeProblem(w, p)
	}
}
