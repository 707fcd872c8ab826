package scan

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"sallyport/control/api"
)

const (
	block   = api.Stray_STRAY_BLOCK
	literal = api.Stray_STRAY_LITERAL
	redact  = api.Stray_STRAY_REDACT
)

func scanner() *Scanner {
	return New([]string{"vault:stripe", "vault:stripe-eu", "vault:gh", "sk_test_SALLYPORT0000"})
}

func TestString(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	b64url := base64.RawURLEncoding.EncodeToString
	tests := []struct{ text, want string }{
		{"vault:stripe", "vault:stripe"},
		{"Bearer vault:stripe", "vault:stripe"},
		{"https://x.test/?key=vault%3Astripe&a", "vault:stripe"},
		{"https://x.test/?key=vault%3astripe", "vault:stripe"},
		{"%76%61%75%6c%74%3A%73%74%72%69%70%65", "vault:stripe"},
		{`{"k":"vault\u003astripe"}`, "vault:stripe"},
		{`{"k":"\u0076ault:strip\u0065"}`, "vault:stripe"},
		{"<b>vault&#58;stripe</b>", "vault:stripe"},
		{"vault:stripe-eu", "vault:stripe-eu"},
		{"sk_test_SALLYPORT0000", "sk_test_SALLYPORT0000"},
		{"Basic " + b64([]byte("vault:stripe:")), "vault:stripe"},
		{"Basic " + b64([]byte("u:vault:stripe")), "vault:stripe"},
		{"Basic " + b64([]byte("us:vault:stripe")), "vault:stripe"},
		{b64url([]byte("usr:vault:gh??>>")), "vault:gh"},
		{"Use vault:stripe. It works", "vault:stripe"},
		{"vault:", ""},
		{"the vault: closed", ""},
		{"VAULT:stripe", ""},
		{"vault:stripe-us", ""},
		{"vault:stripe_2", ""},
		{"vault:stripe.eu", ""},
		{"vault:strip", ""},
		{"vault%3Astripe%2Dus", ""},
		{"vault:unknown", ""},
		{"sk_test_SALLYPORT00001", ""},
		{b64([]byte("us:vault:strife")), ""},
		{b64([]byte("vault:stripd")), ""},
		{b64([]byte("xvault:stripd")), ""},
		{b64([]byte("xxvault:stripd")), ""},
		{"", ""},
	}
	s := scanner()
	for _, tt := range tests {
		if got, found := s.String(tt.text); got != tt.want || found != (tt.want != "") {
			t.Errorf("%q: %q, %v; want %q", tt.text, got, found, tt.want)
		}
	}
}

func TestMask(t *testing.T) {
	got, n := scanner().Mask("a=vault:stripe&b=vault%3Agh;c=vault:stripe-us")
	if want := "a=************&b=**********;c=vault:stripe-us"; got != want || n != 2 {
		t.Errorf("%q, %d", got, n)
	}
	if got, n := scanner().Mask("nothing"); got != "nothing" || n != 0 {
		t.Errorf("%q, %d", got, n)
	}
}

func TestReaderAtEverySplit(t *testing.T) {
	for _, text := range []string{
		`{"key":"vault:stripe","n":1}`, "k=vault%3Astripe", `x\u0076ault\u003Astripe"`, "dXM6dmF1bHQ6c3RyaXBl", "..vault:stripe.",
	} {
		for split := range len(text) {
			cut := func() io.ReadCloser {
				return io.NopCloser(io.MultiReader(strings.NewReader(text[:split]), strings.NewReader(text[split:])))
			}
			out, err := io.ReadAll(scanner().Reader(cut(), block))
			var stray *StrayError
			if !errors.As(err, &stray) || stray.Placeholder != "vault:stripe" {
				t.Fatalf("%q split at %d: %v", text, split, err)
			}
			if got, found := scanner().String(string(out)); found {
				t.Fatalf("%q split at %d: handed out %s in %q", text, split, got, out)
			}
			out, err = io.ReadAll(scanner().Reader(cut(), redact))
			if err != nil || len(out) != len(text) {
				t.Fatalf("%q split at %d: %q, %v", text, split, out, err)
			}
			if got, found := scanner().String(string(out)); found {
				t.Fatalf("%q split at %d: left %s in %q", text, split, got, out)
			}
		}
	}
}

func TestReaderPassesOthersOn(t *testing.T) {
	text := strings.Repeat("the vault: is shut, vault:stripe-us, vault%3Aother and YW55 more\n", 500)
	for _, stray := range []api.Stray{block, redact, api.Stray_STRAY_UNSPECIFIED} {
		out, err := io.ReadAll(scanner().Reader(io.NopCloser(iotest.HalfReader(strings.NewReader(text))), stray))
		if err != nil || string(out) != text {
			t.Errorf("%v: %v", stray, err)
		}
	}
}

func TestReaderThatHasNothingToDo(t *testing.T) {
	body := io.NopCloser(strings.NewReader("vault:stripe"))
	if scanner().Reader(body, literal) != body || New(nil).Reader(body, block) != body {
		t.Error("wrapped a reader for nothing")
	}
}

func TestReaderCloses(t *testing.T) {
	c := &closer{}
	if err := scanner().Reader(struct {
		io.Reader
		io.Closer
	}{strings.NewReader(""), c}, block).Close(); err != nil || !c.closed {
		t.Errorf("closed %v, %v", c.closed, err)
	}
}

type closer struct{ closed bool }

func (c *closer) Close() error { c.closed = true; return nil }

func TestUnspecifiedBlocks(t *testing.T) {
	_, err := io.ReadAll(scanner().Reader(io.NopCloser(strings.NewReader("vault:gh")), api.Stray_STRAY_UNSPECIFIED))
	var stray *StrayError
	if !errors.As(err, &stray) {
		t.Errorf("err = %v", err)
	}
}

// However the stream is cut, the outcome is the same.
func FuzzReader(f *testing.F) {
	s := scanner()
	f.Add([]byte("vault:stripe"), uint16(3))
	f.Add([]byte("vault%3Astripe-e"), uint16(13))
	f.Add([]byte(`vvault\u003agh."`), uint16(8))
	f.Add([]byte("dXM6dmF1bHQ6c3RyaXBl"), uint16(8))
	f.Fuzz(func(t *testing.T, text []byte, split uint16) {
		cut := int(split) % (len(text) + 1)
		whole, _ := s.Mask(string(text))
		out, err := io.ReadAll(s.Reader(io.NopCloser(io.MultiReader(bytes.NewReader(text[:cut]), bytes.NewReader(text[cut:]))), redact))
		if err != nil || string(out) != whole {
			t.Fatalf("cut at %d: %q, %v; whole: %q", cut, out, err, whole)
		}
		_, found := s.String(string(text))
		_, err = io.ReadAll(s.Reader(io.NopCloser(bytes.NewReader(text)), block))
		if (err != nil) != found {
			t.Fatalf("%q: found %v, error %v", text, found, err)
		}
		for _, p := range []string{"vault:stripe", "vault:gh", "sk_test_SALLYPORT0000"} {
			if bytes.HasSuffix(text, []byte(p)) && !found {
				t.Fatalf("%q not found at the end of %q", p, text)
			}
		}
	})
}

func BenchmarkReader(b *testing.B) {
	var names []string
	for i := range 50 {
		names = append(names, fmt.Sprintf("vault:service-%d", i))
	}
	s := New(names)
	text := bytes.Repeat([]byte(`{"role":"user","content":"What does the vault: of %7Bx%7D say about \u00e9tudes & more?"},`), 10<<10)
	buf := make([]byte, 32<<10)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, s.Reader(io.NopCloser(bytes.NewReader(text)), block), buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNew(b *testing.B) {
	var names []string
	for i := range 50 {
		names = append(names, fmt.Sprintf("vault:service-%d", i))
	}
	for b.Loop() {
		New(names)
	}
}
