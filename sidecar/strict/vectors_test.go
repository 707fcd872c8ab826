package strict

import (
	"errors"
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
