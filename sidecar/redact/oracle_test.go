package redact

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"sallyport/control/api"
)

// reads hands out one text a Read.
type reads []string

func (r *reads) Read(p []byte) (int, error) {
	if len(*r) == 0 {
		return 0, io.EOF
	}
	n := copy(p, (*r)[0])
	if (*r)[0] = (*r)[0][n:]; (*r)[0] == "" {
		*r = (*r)[1:]
	}
	return n, nil
}

// boundaries gives where the reads of a body end that comes in the parts given.
func boundaries(t *testing.T, p *Patterns, parts []string) (ends []int) {
	t.Helper()
	// In the bubble a silence is one, not a busy machine.
	synctest.Test(t, func(t *testing.T) {
		source := reads(slices.Clone(parts))
		resp := response("")
		resp.Body = io.NopCloser(&source)
		if err := p.Redactor().Response(resp); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 2<<10)
		for at := 0; ; {
			n, err := resp.Body.Read(buf)
			at += n
			ends = append(ends, at)
			if err != nil {
				break
			}
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
	})
	return ends
}

// An agent that uploads guesses, and downloads them again, must not see from
// where reads end which of them goes on as the secret does.
func TestReadsEndWhereNoSecretDecides(t *testing.T) {
	tokens := []string{
		"sk_live_4eC39HqLyjWDarjtT1zdp7dc", "0f3c9a7e55d1", `p&"a<s>s/wö+rd!`, "correct horse battery staple",
		base64.StdEncoding.EncodeToString([]byte("admin:correct-horse")), strings.Repeat("ab", 20),
	}
	encodings := map[string]func(string) string{
		"raw":     func(s string) string { return s },
		"base64":  func(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) },
		"hex":     func(s string) string { return hex.EncodeToString([]byte(s)) },
		"percent": func(s string) string { return percent(s, "%%%02X") },
		"basic":   func(s string) string { return "Basic " + base64.RawStdEncoding.EncodeToString([]byte("user:"+s)) },
		"utf-16":  func(s string) string { return strings.Join(strings.Split(s, ""), "\x00") },
		"spaced":  func(s string) string { return fmt.Sprintf("% x", s) },
		"lines":   func(s string) string { return folded(base64.StdEncoding.EncodeToString([]byte(s)), 5, "\n  ") },
	}
	for _, token := range tokens {
		right, other := patternsOf(token), patternsOf(otherToken(token))
		for name, encode := range encodings {
			for known := range len(token) - 1 {
				guess := encode(token[:known+1])
				// At the end of a read, over two, over single bytes, and in many.
				for _, cut := range [][]string{{"%s"}, {"%s", "\n"}, {"x %s", "y", "%s", " \n\n%s", "z"}} {
					var parts []string
					for _, part := range cut {
						text := strings.ReplaceAll(part, "%s", guess)
						parts = append(parts, text[:len(text)/2], text[len(text)/2:])
					}
					parts = append(parts, strings.Split(guess, "")...)
					parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
					if a, b := boundaries(t, right, parts), boundaries(t, other, parts); !slices.Equal(a, b) {
						t.Fatalf("%s: where the secret is %q %q ends at %v, otherwise at %v", name, token, parts, a, b)
					}
				}
			}
		}
	}
}

func patternsOf(token string) *Patterns {
	pair := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+token))
	return Compile(api.Material{Username: "user", Token: []byte(token)}, [][]byte{[]byte(pair)})
}

// otherToken gives a token as long as the one given and with the same spaces,
// for which a guess of that is wrong.
func otherToken(token string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ' ':
			return r
		case '"':
			return '#'
		}
		return r ^ 2
	}, token)
}

// Nor may the bound on what is held back be seen to move with a guess.
func TestBoundOfWhatIsHeldIsNoOracle(t *testing.T) {
	token := "sk_live_4eC39HqLyjWDarjtT1zdp7dc"
	right, other := patternsOf(token), patternsOf(otherToken(token))
	for _, size := range []int{4<<10 - 40, 4<<10 - 8, 4 << 10, 4<<10 + 8, 9 << 10} {
		fill := strings.Repeat("x", size)
		for known := range len(token) - 1 {
			parts := []string{fill + token[:known+1], fill, token[:known+1]}
			if a, b := boundaries(t, right, parts), boundaries(t, other, parts); !slices.Equal(a, b) {
				t.Fatalf("%d bytes and %q end at %v, otherwise at %v", size, token[:known+1], a, b)
			}
		}
	}
}
