package socket_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/sidecar/match"
	"sallyport/sidecar/socket"
)

const secret = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"

func stars(n int) string { return strings.Repeat("*", n) }

// secrets is a search for the secret and its base64, which it masks.
func secrets() match.Search {
	set := match.Compile([]match.Pattern{{Units: match.Text([]byte(secret))}, {Units: match.Base64([]byte(secret), 0)}})
	return match.Search{Set: set, Secret: true, Found: func(_ int, text []byte) error {
		copy(text, stars(len(text)))
		return nil
	}}
}

var errFound = errors.New("found")

// names is a search for a name, which ends what holds it, or masks it.
func names(name string, blocks bool) match.Search {
	s := secrets()
	s.Set, s.Secret = match.Compile([]match.Pattern{{Units: match.Text([]byte(name)), Word: true}}), false
	if blocks {
		s.Found = func(int, []byte) error { return errFound }
	}
	return s
}

// of is a frame of a side. Its first byte is final bit and opcode.
func of(side socket.Side, first byte, payload string) []byte {
	b, bit := []byte{first}, byte(0)
	if side == socket.Client {
		bit = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, bit|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, bit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, bit|127), uint64(n))
	}
	if side == socket.Server {
		return append(b, payload...)
	}
	key := [4]byte{0x37, 0xfa, 0x21, byte(len(payload))}
	b = append(b, key[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return b
}

// fragments is a message cut into pieces, with what is between them.
func fragments(side socket.Side, text string, size int, between []byte) (all []byte) {
	for first, op := true, byte(1); first || text != ""; first, op = false, 0 {
		n := min(size, len(text))
		if n == len(text) {
			op |= 0x80
		}
		all = append(all, of(side, op, text[:n])...)
		if text = text[n:]; text != "" {
			all = append(all, between...)
		}
	}
	return all
}

// pass writes text in pieces and gives what is passed on.
func pass(t *testing.T, side socket.Side, search match.Search, text []byte, size int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := socket.NewWriter(&out, side, search)
	defer w.Close()
	for piece := range slices.Chunk(text, size) {
		if _, err := w.Write(bytes.Clone(piece)); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// TestSecretInFragments: however a message is cut into frames, and these into
// writes, it is the same but for the secret.
func TestSecretInFragments(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte(secret))
	text := `{"a":"` + secret + `", "b": "` + encoded + `"}`
	search := secrets()
	masked := strings.NewReplacer(secret, stars(len(secret)), encoded[:43], stars(43)).Replace(text)
	for _, side := range []socket.Side{socket.Server, socket.Client} {
		ping := of(side, 0x89, "are you there")
		for _, between := range [][]byte{nil, ping, of(side, 0x00, ""), slices.Concat(of(side, 0x8a, ""), of(side, 0, ""), ping)} {
			for size := 1; size <= len(text); size++ {
				for _, write := range []int{1, 2, 7, 1 << 20} {
					got := pass(t, side, search, fragments(side, text, size, between), write)
					if want := fragments(side, masked, size, between); !bytes.Equal(got, want) {
						t.Fatalf("fragments of %d in writes of %d:\ngot  %q\nwant %q", size, write, got, want)
					}
				}
			}
		}
	}
}

// TestSecretInControlFrames: the reason of a Close says what a service likes.
func TestSecretInControlFrames(t *testing.T) {
	search := secrets()
	for _, side := range []socket.Side{socket.Server, socket.Client} {
		for _, first := range []byte{0x88, 0x89, 0x8a} {
			for _, write := range []int{1, 3, 1 << 20} {
				got := pass(t, side, search, of(side, first, "\x03\xe8bad key "+secret), write)
				if want := of(side, first, "\x03\xe8bad key "+stars(len(secret))); !bytes.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		}
	}
}

// TestMessagesAreNotHeldBack, whatever they end with, nor what follows them; of one
// that goes on only what any secret could be a part of.
func TestMessagesAreNotHeldBack(t *testing.T) {
	var out bytes.Buffer
	w := socket.NewWriter(&out, socket.Server, secrets())
	defer w.Close()
	for _, step := range []struct{ sent, passed string }{
		{"\x81\x03sk_", "\x81\x03sk_"},
		{"\x81\x00", "\x81\x00"},
		{"\x89\x01p\x82\x02sk", "\x89\x01p\x82\x02sk"},
		{"\x01\x09two words", "\x01\x09two "},
		{"\x8a\x00", ""},
		{"\x80\x01s", "words\x8a\x00\x80\x01s"},
		{"\x81\x7e\x00\x80" + strings.Repeat("x ", 32), "\x81\x7e\x00\x80" + strings.Repeat("x ", 32)},
		{strings.Repeat("y ", 32), strings.Repeat("y ", 32)},
		{"\x88\x02\x03\xe8", "\x88\x02\x03\xe8"},
	} {
		out.Reset()
		if _, err := w.Write([]byte(step.sent)); err != nil || out.String() != step.passed {
			t.Fatalf("of %q is passed on %q, %v; want %q", step.sent, &out, err, step.passed)
		}
	}
}

// TestHeldInASilence: who waits for the rest of a fragment gets it, in time, and
// what follows a pause is still searched.
func TestHeldInASilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		w := socket.NewWriter(&out, socket.Server, secrets())
		w.Write(of(socket.Server, 0x01, secret[:8]))
		w.Write(of(socket.Server, 0x89, "x")) // is no word of the message
		time.Sleep(2 * time.Second)
		w.Write(of(socket.Server, 0x80, secret[8:]+" "+secret))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		want := slices.Concat(of(socket.Server, 0x01, secret[:8]), of(socket.Server, 0x89, "x"),
			of(socket.Server, 0x80, stars(len(secret)-8)+" "+stars(len(secret))))
		if !bytes.Equal(out.Bytes(), want) {
			t.Errorf("got %q, want %q", &out, want)
		}
	})
}

// TestFramesHeldAreBounded: what is between two fragments is not gathered for ever.
func TestFramesHeldAreBounded(t *testing.T) {
	for name, between := range map[string][]byte{"pings": of(socket.Server, 0x89, stars(125)), "empty": of(socket.Server, 0, "")} {
		var out bytes.Buffer
		w := socket.NewWriter(&out, socket.Server, secrets())
		_, err := w.Write(of(socket.Server, 0x01, "begun"))
		for range 1 << 16 {
			if err == nil {
				_, err = w.Write(between)
			}
		}
		if !errors.Is(err, socket.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		w.Close()
	}
}

var malformed = map[string]func(socket.Side) []byte{
	"reserved bits":          func(s socket.Side) []byte { return of(s, 0xc1, "x") },
	"reserved bits, ping":    func(s socket.Side) []byte { return of(s, 0x99, "x") },
	"unknown opcode":         func(s socket.Side) []byte { return of(s, 0x83, "x") },
	"unknown control":        func(s socket.Side) []byte { return of(s, 0x8b, "x") },
	"long ping":              func(s socket.Side) []byte { return of(s, 0x89, stars(126)) },
	"ping in fragments":      func(s socket.Side) []byte { return of(s, 0x09, "x") },
	"continued from nothing": func(s socket.Side) []byte { return of(s, 0x80, "x") },
	"begun twice":            func(s socket.Side) []byte { return append(of(s, 0x01, "a "), of(s, 0x81, "x")...) },
	"of the other side":      func(s socket.Side) []byte { return of(1-s, 0x81, "x") },
	"negative length":        func(s socket.Side) []byte { return []byte("\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff") },
}

// TestMalformedFrames: an upstream's end the connection, and of a client's the
// upstream gets the head, to say what is wrong.
func TestMalformedFrames(t *testing.T) {
	for name, bad := range malformed {
		var out bytes.Buffer
		w := socket.NewWriter(&out, socket.Server, secrets())
		whole := of(socket.Server, 0x81, "whole")
		if _, err := w.Write(slices.Concat(whole, bad(socket.Server), whole)); !errors.Is(err, socket.ErrMalformed) {
			t.Errorf("%s of a server: %v", name, err)
		}
		if !bytes.HasPrefix(out.Bytes(), whole) || bytes.Count(out.Bytes(), whole) > 1 || bytes.HasSuffix(out.Bytes(), []byte("x")) {
			t.Errorf("%s of a server: passed on %q", name, &out)
		}
		w.Close()

		sent := bad(socket.Client)
		out.Reset()
		w = socket.NewWriter(&out, socket.Client, names("vault:stripe", true))
		for piece := range slices.Chunk(slices.Concat(sent, of(socket.Client, 0x81, "vault:stripe ")), 1) {
			if _, err := w.Write(piece); err != nil {
				t.Errorf("%s of a client: %v", name, err)
			}
		}
		if !bytes.HasPrefix(sent, out.Bytes()) || out.Len() == 0 {
			t.Errorf("%s of a client: passed on %q of %q", name, &out, sent)
		}
		w.Close()
	}
}

// TestPlaceholders that clients send are masked under their key, or end the
// connection before they are whole.
func TestPlaceholders(t *testing.T) {
	text := "use vault:stripe, not vault:stripe-eu"
	masks, blocks, responses := names("vault:stripe", false), names("vault:stripe", true), secrets()
	masked := strings.Replace(text, "vault:stripe,", stars(12)+",", 1)
	for size := 1; size <= len(text); size++ {
		for _, write := range []int{1, 5, 1 << 20} {
			sent := fragments(socket.Client, text, size, of(socket.Client, 0x89, "p"))
			got := pass(t, socket.Client, masks, sent, write)
			if want := fragments(socket.Client, masked, size, of(socket.Client, 0x89, "p")); !bytes.Equal(got, want) {
				t.Fatalf("fragments of %d:\ngot  %q\nwant %q", size, got, want)
			}

			var client, upstream bytes.Buffer
			down, up := socket.Join(&client, &upstream, responses, blocks)
			var err error
			for piece := range slices.Chunk(sent, write) {
				if err == nil {
					_, err = up.Write(piece)
				}
			}
			if !errors.Is(err, errFound) || !bytes.HasPrefix(sent, upstream.Bytes()) || upstream.Len() >= len(sent)*16/37+16 {
				t.Fatalf("fragments of %d: %v; passed on %q", size, err, &upstream)
			}
			if want := "\x88\x02\x03\xf0"; client.String() != want {
				t.Fatalf("the client was told %q, want %q", &client, want)
			}
			if _, err := down.Write(of(socket.Server, 0x81, "late")); err != nil || client.Len() != 4 {
				t.Fatalf("after the Close %q, %v", &client, err)
			}
		}
	}
}

// TestWholeNameEndsWithItsMessage: nothing can go on with it.
func TestWholeNameEndsWithItsMessage(t *testing.T) {
	for _, first := range []byte{0x81, 0x89} {
		w := socket.NewWriter(new(bytes.Buffer), socket.Client, names("vault:stripe", true))
		if _, err := w.Write(of(socket.Client, first, "vault:stripe")); !errors.Is(err, errFound) {
			t.Errorf("%#x: %v", first, err)
		}
	}
}

// FuzzWriter: what is passed on is what came, or less of it where that is
// malformed, whatever the writes; and no secret.
func FuzzWriter(f *testing.F) {
	for _, bad := range malformed {
		f.Add(bad(socket.Server), uint16(3))
		f.Add(bad(socket.Client), uint16(1))
	}
	f.Add(fragments(socket.Server, "a "+secret+" b", 5, of(socket.Server, 0x89, "")), uint16(4))
	search := secrets()
	f.Fuzz(func(t *testing.T, text []byte, seed uint16) {
		for _, side := range []socket.Side{socket.Server, socket.Client} {
			var whole, parts bytes.Buffer
			a, b := socket.NewWriter(&whole, side, search), socket.NewWriter(&parts, side, search)
			_, wholeErr := a.Write(bytes.Clone(text))
			var partsErr error
			random := rand.New(rand.NewPCG(uint64(seed), 0))
			for rest := text; len(rest) > 0 && partsErr == nil; {
				n := 1 + random.IntN(min(len(rest), 9))
				_, partsErr = b.Write(bytes.Clone(rest[:n]))
				rest = rest[n:]
			}
			if fmt.Sprint(wholeErr) != fmt.Sprint(partsErr) {
				t.Fatalf("at once %v, in parts %v", wholeErr, partsErr)
			}
			if a.Close(); !bytes.Contains(text, []byte("*")) && side == socket.Server && bytes.Contains(whole.Bytes(), []byte(secret)) {
				t.Fatalf("left in %q", &whole)
			}
			if b.Close(); whole.Len() > len(text) || parts.Len() > len(text) {
				t.Fatal("there is more than came")
			}
			for i, c := range whole.Bytes() {
				if side == socket.Server && c != text[i] && c != '*' {
					t.Fatalf("byte %d of %q changed: %q", i, text, &whole)
				}
			}
			if n := min(whole.Len(), parts.Len()); !bytes.Equal(whole.Bytes()[:n], parts.Bytes()[:n]) {
				t.Fatalf("at once %q, in parts %q", &whole, &parts)
			}
		}
	})
}
