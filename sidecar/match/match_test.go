package match

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"pgregory.net/rapid"
)

// mask runs text through a Reader in pieces of the sizes given, in turn, and
// gives it with its hits overwritten.
func mask(t interface{ Fatalf(string, ...any) }, s *Set, text []byte, sizes ...int) string {
	r := reader(s, &pieces{text: text, sizes: sizes}, func(_ int, text []byte) error {
		copy(text, bytes.Repeat([]byte{'*'}, len(text)))
		return nil
	})
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return string(out)
}

func reader(s *Set, src io.Reader, found func(id int, text []byte) error) *Reader {
	return Search{Set: s, Found: found}.Reader(io.NopCloser(src), nil)
}

// pieces hands text out in reads of given sizes.
type pieces struct {
	text  []byte
	sizes []int
	turn  int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.text) == 0 {
		return 0, io.EOF
	}
	n := len(b)
	if len(p.sizes) > 0 {
		n = min(n, p.sizes[p.turn%len(p.sizes)])
		p.turn++
	}
	n = copy(b[:n], p.text)
	p.text = p.text[n:]
	return n, nil
}

func literals(texts ...string) *Set {
	var patterns []Pattern
	for id, text := range texts {
		patterns = append(patterns, Pattern{ID: id, Units: Text([]byte(text))})
	}
	return Compile(patterns)
}

func words(texts ...string) *Set {
	var patterns []Pattern
	for id, text := range texts {
		patterns = append(patterns, Pattern{ID: id, Units: Text([]byte(text)), Word: true})
	}
	return Compile(patterns)
}

func stars(n int) string { return strings.Repeat("*", n) }

func TestEverySpellingAtEverySplit(t *testing.T) {
	set := literals(`s3/"k é`)
	spellings := []string{
		`s3/"k é`, `s3%2f%22k%20%c3%a9`, `%733%2F%22k+%C3%A9`, `s3\/\"k \u00e9`, `\u0073\u0033\u002f\u0022\u006b\u0020\u00E9`,
		`s3&#x2F;&quot;k &#233;`, `s3&#47;&#034;k&#32;&#xe9;`, `\x733/"k é`, `s%33\u002F&quot;k+é`,
	}
	for _, s := range spellings {
		text := "before " + s + " after"
		want := "before " + stars(len(s)) + " after"
		for split := 1; split < len(text); split++ {
			if got := mask(t, set, []byte(text), split, len(text)); got != want {
				t.Fatalf("%s split at %d: %q", s, split, got)
			}
		}
		if got := mask(t, set, []byte(text), 1); got != want {
			t.Errorf("%s by single bytes: %q", s, got)
		}
	}
}

func TestWordsEndWhereNamesEnd(t *testing.T) {
	set := words("vault:stripe", "vault:stripe-eu", "vault:git")
	tests := []struct {
		text string
		hits []int
	}{
		{"vault:stripe", []int{0}},
		{"vault:stripe ", []int{0}},
		{"vault:stripe.", []int{0}},
		{"vault:stripe. Then", []int{0}},
		{"vault:stripe,vault:git", []int{0, 2}},
		{"vault:stripe-eu", []int{1}},
		{"vault%3Astripe%2deu", []int{1}},
		{"vault:stripe-eu2", nil},
		{"vault:stripe-us", nil},
		{"vault:stripe-e", nil},
		{"vault:stripe--x", nil},
		{"vault:stripe2", nil},
		{"vault:stripe%32", nil},
		{`vault:stripe\u0032`, nil},
		{`vault:stripe\n`, []int{0}},
		{"vault:stripe%0a", []int{0}},
		{"vault:stripe%", []int{0}},
		{"vault:stripe&amp;x", []int{0}},
		{"vault:", nil},
		{"VAULT:STRIPE", nil},
		{"vault:vault:stripe", []int{0}},
		{"vault:strivault:git.x", nil},
		{"vault:strivault:git. x", []int{2}},
	}
	for _, tt := range tests {
		for split := 1; split <= len(tt.text); split++ {
			var hits []int
			r := reader(set, &pieces{text: []byte(tt.text), sizes: []int{split, 1 << 10}}, func(id int, _ []byte) error {
				hits = append(hits, id)
				return nil
			})
			out, err := io.ReadAll(r)
			if err != nil || string(out) != tt.text {
				t.Fatalf("%q came out as %q, %v", tt.text, out, err)
			}
			if fmt.Sprint(hits) != fmt.Sprint(tt.hits) {
				t.Fatalf("%q split at %d: hits %v, want %v", tt.text, split, hits, tt.hits)
			}
		}
	}
}

func TestFindGivesOffsetsOfTheText(t *testing.T) {
	set := words("vault:a", "vault:b")
	text := "x vault:a y vault%3ab"
	var got []string
	set.Find(text, func(_, start, end int) { got = append(got, text[start:end]) })
	if fmt.Sprint(got) != "[vault:a vault%3ab]" {
		t.Errorf("found %q", got)
	}
}

// What can't be part of a pattern is handed out by the read that brought it.
func TestHoldsOnlyWhatMayBeAPattern(t *testing.T) {
	set := literals("secret-value")
	stream := set.Stream(func(_, _, _ int) {})
	tests := []struct {
		text string
		held int
	}{
		{"data: hello\n\n", 0}, {"data: s", 1}, {"data: secret-valu", 11}, {"data: secret-valux", 0},
		{"data: secret-value", 0}, {`data: secret\u002`, 11}, {"secretsecret-v", 8}, {"50%", 1}, {"%7", 2}, {"%7x", 0},
	}
	for _, tt := range tests {
		if held := stream.Scan([]byte(tt.text), 0); held != tt.held {
			t.Errorf("%q: holds %d bytes, want %d", tt.text, held, tt.held)
		}
		stream.End()
	}
}

func TestReaderStopsBeforeTheHit(t *testing.T) {
	stop := errors.New("stop")
	for _, size := range []int{1, 7, 100} {
		r := reader(words("vault:x"), &pieces{text: []byte("key=vault:x rest"), sizes: []int{size}}, func(int, []byte) error { return stop })
		out, err := io.ReadAll(r)
		if !errors.Is(err, stop) {
			t.Fatalf("err = %v", err)
		}
		if strings.Contains(string(out), "vault:x") {
			t.Errorf("handed out %q", out)
		}
	}
}

func TestReaderWithSmallBuffers(t *testing.T) {
	text := strings.Repeat("a secret-value b", 100)
	r := reader(literals("secret-value"), strings.NewReader(text), func(_ int, text []byte) error {
		copy(text, stars(len(text)))
		return nil
	})
	out, err := io.ReadAll(iotest.OneByteReader(r))
	if want := strings.ReplaceAll(text, "secret-value", stars(12)); err != nil || string(out) != want {
		t.Errorf("got %q, %v", out, err)
	}
}

// A source that fails must not give away what was held back for fear of a hit.
func TestReaderDropsWhatItHoldsOnFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a busy machine is no silence
		src := io.MultiReader(strings.NewReader("abc secret-val"), iotest.ErrReader(io.ErrUnexpectedEOF))
		out, err := io.ReadAll(reader(literals("secret-value"), src, func(int, []byte) error { return nil }))
		if string(out) != "abc " || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %q, %v", out, err)
		}
	})
}

func TestNoPatterns(t *testing.T) {
	if got := mask(t, Compile(nil), []byte("anything"), 3); got != "anything" {
		t.Errorf("got %q", got)
	}
	Compile(nil).Find("anything", func(_, _, _ int) { t.Error("found something") })
}

func TestWipedSetFindsNothing(t *testing.T) {
	set := literals("secret-value")
	stream := set.Stream(func(_, _, _ int) { t.Error("found it") })
	stream.Scan([]byte("secret-"), 0)
	set.Wipe()
	stream.Scan([]byte("secret-value secret-value"), 7)
	stream.End()
}

// The last byte of one hit may be the first of the next.
func TestHitsThatShareAByte(t *testing.T) {
	for size := 1; size < 4; size++ {
		if got := mask(t, literals("%2", "b%"), []byte("b%2"), size); got != "***" {
			t.Errorf("by %d: %q", size, got)
		}
	}
}

// Over a small alphabet, where patterns overlap themselves and each other, the
// outcome is that of looking at every place for every text.
func TestAgreesWithSearchingEverywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rapid.StringMatching(`[ab%2]{1,14}`), 1, 5).Draw(t, "texts")
		text := rapid.StringMatching(`([ab%2]|zzzzzz){0,80}`).Draw(t, "text")
		sizes := rapid.SliceOfN(rapid.IntRange(1, 20), 1, 4).Draw(t, "sizes")
		want := []byte(text)
		for _, p := range texts {
			for i := range text {
				for _, s := range plainOrPercent(p, text[i:]) {
					copy(want[i:], stars(len(s)))
				}
			}
		}
		if got := mask(t, literals(texts...), []byte(text), sizes...); got != string(want) {
			t.Fatalf("%q: got  %q\nwant %q", texts, got, want)
		}
	})
}

// plainOrPercent gives the prefixes of text that spell p.
func plainOrPercent(p, text string) []string {
	if p == "" {
		return []string{""}
	}
	var all []string
	for _, s := range []string{p[:1], fmt.Sprintf("%%%02x", p[0])} {
		if rest, ok := strings.CutPrefix(text, s); ok {
			for _, tail := range plainOrPercent(p[1:], rest) {
				all = append(all, s+tail)
			}
		}
	}
	return all
}

func BenchmarkCompile(b *testing.B) {
	token := []byte("sk_live_4eC39HqLyjWDarjtT1zdp7dcXk29vQmZ0aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789")
	for b.Loop() {
		patterns := []Pattern{{Units: Text(token)}, {Units: Hex(token)}}
		for offset := range 3 {
			patterns = append(patterns, Pattern{Units: Base64(token, offset)})
		}
		set := Compile(patterns)
		b.ReportMetric(float64(len(set.states)), "states")
	}
}

// Spellings can be padded, so that each byte of a text begins one. They are followed
// together, or such a text would take as many steps as the square of its length.
func TestPaddedSpellingsAreFollowedTogether(t *testing.T) {
	const secret = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"
	set := Compile([]Pattern{{Units: Text([]byte(secret))}, {Units: Hex([]byte(secret))}, {Units: Base64([]byte(secret), 0)}})
	for _, unit := range []string{`\`, `\n`, "%25", "&amp;", "&#0", "&amp;#0", `\u{0`, "\n", "73 "} {
		text := strings.Repeat(unit, 4<<10)
		stream := set.Stream(func(int, int, int) { t.Errorf("%q is a hit", unit) })
		for i := range len(text) {
			stream.Scan([]byte(text[:i+1]), i)
			if len(stream.threads) > 4 {
				t.Fatalf("%q: %d threads after %d bytes", unit, len(stream.threads), i)
			}
		}
	}
	if got := mask(t, set, []byte(strings.Repeat(`\`, 100)+"u0073"+secret[1:])); got != stars(105+len(secret)-1) {
		t.Errorf("padded: %q", got)
	}
}

// A pattern that repeats itself is found where the text does not do so for long, and
// where it does the search ends: it would take as many steps as the product of both.
func TestPatternThatRepeatsItself(t *testing.T) {
	secret := strings.Repeat("ab", 200)
	for text, ok := range map[string]bool{"x" + secret[:100] + "y": true, secret[:100]: true, "x" + secret: false, secret + secret: false} {
		out, err := io.ReadAll(reader(literals(secret), strings.NewReader(text), func(_ int, text []byte) error {
			copy(text, stars(len(text)))
			return nil
		}))
		if ok && (err != nil || string(out) != text) || !ok && (!errors.Is(err, ErrTangled) || strings.Contains(string(out), secret)) {
			t.Errorf("%d bytes of %d came as %d, %v", len(text), len(secret), len(out), err)
		}
		var covered int
		literals(secret).Find(text, func(_, start, end int) { covered = max(covered, end-start) })
		if ok != (covered == 0) || !ok && covered < len(secret) {
			t.Errorf("in a text of %d bytes %d are found", len(text), covered)
		}
	}
}
