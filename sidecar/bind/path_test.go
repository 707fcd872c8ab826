package bind

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

// A path that is taken to be read one way is: every usual reading of it, once or
// twice over, gives the same segments.
func FuzzSegments(f *testing.F) {
	for _, s := range crooked {
		f.Add(s)
	}
	f.Add("/v1/charges/ch_1")
	f.Add("/docs/%C3%A9/100%25")
	f.Fuzz(func(t *testing.T, escaped string) {
		all, ok := segments(escaped)
		if !ok {
			return
		}
		plain := "/" + strings.Join(all, "/")
		if path.Clean(plain) != plain {
			t.Errorf("%q is %q, and cleaned %q", escaped, plain, path.Clean(plain))
		}
		if once, err := url.PathUnescape(escaped); err != nil || strings.TrimSuffix(once, "/") != strings.TrimSuffix(plain, "/") {
			t.Errorf("%q is %q, decoded it is %q, %v", escaped, plain, once, err)
		}
		if twice, err := url.PathUnescape(plain); err == nil && twice != plain {
			t.Errorf("%q is %q, decoded again %q", escaped, plain, twice)
		}
		if strings.ContainsAny(plain, "\\;?#\x00") {
			t.Errorf("%q is %q", escaped, plain)
		}
		for _, segment := range all {
			if segment == "" || segment == "." || segment == ".." {
				t.Errorf("%q has the segment %q", escaped, segment)
			}
		}
		if again, ok := segments((&url.URL{Path: plain}).EscapedPath()); !ok || strings.Join(again, "/") != strings.Join(all, "/") {
			t.Errorf("%q, spelled anew, is %q", escaped, again)
		}
	})
}
