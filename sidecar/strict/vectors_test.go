package strict

import (
	"errors"
	"strings"
	"testing"

	"sallyport/e2e/smuggle/vectors"
)

// The vectors that real servers are tried with say what RFC 9112 makes of them.
func TestVectors(t *testing.T) {
	for _, v := range vectors.All() {
		for _, size := range []int{1 << 20, 1} {
			out, _, err := through(Limits{}, v.Text, size)
			var e *Error
			switch {
			case v.Want == vectors.Accept && err != nil:
				t.Errorf("refused: %s: %v", v, err)
			case v.Want == vectors.Accept && v.Group != "trailers" && v.Group != "line ends" && out != v.Text:
				t.Errorf("changed to %q: %s", out, v) // trailers alone are left out
			case v.Want == vectors.Refuse && !errors.As(err, &e):
				t.Errorf("let through: %s: %v", v, err)
			}
		}
	}
}

// A client that knows it speaks to a proxy may say absolute-form and CONNECT, and
// nothing else that others may not.
func TestVectorsToAProxy(t *testing.T) {
	for _, v := range vectors.All() {
		plain, _, plainErr := through(Limits{}, v.Text)
		proxied, _, err := through(Limits{Proxy: true}, v.Text)
		line, _, _ := strings.Cut(v.Text, "\r\n")
		if strings.Contains(line, "http://") || strings.Contains(line, "HTTP://") || strings.Contains(v.Text, "CONNECT ") {
			continue // TestProxyForms is about these
		}
		if plain != proxied || (plainErr == nil) != (err == nil) {
			t.Errorf("%s: %v, to a proxy %v", v, plainErr, err)
		}
	}
}
