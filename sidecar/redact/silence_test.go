package redact

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"sallyport/control/api"
)

// stream is a response whose body is what is written to w. It is closed when the
// test ends, and with it all that was started.
func stream(t *testing.T, h http.Header) (resp *http.Response, w *io.PipeWriter) {
	t.Helper()
	pr, pw := io.Pipe()
	resp = response("")
	resp.Header, resp.Body = h, pr
	if err := newRedactor().Response(resp); err != nil {
		t.Fatal(err)
	}
	return resp, pw
}

func expect(t *testing.T, r io.Reader, want string) {
	t.Helper()
	buf := make([]byte, len(want))
	if _, err := io.ReadFull(r, buf); err != nil || string(buf) != want {
		t.Fatalf("read %q, %v; want %q", buf, err, want)
	}
}

// Who waits for the whole of a message before it answers must get it.
func TestMessagesComeWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resp, w := stream(t, http.Header{})
		for _, message := range []string{"hellos", "abc%", `{"a":1}`, "ping\n", canary[:6], "msg\\", canary[:3], "done"} {
			go io.WriteString(w, message)
			expect(t, resp.Body, message)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Of a secret that a pause divides the rest is hidden still.
func TestSecretAroundASilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resp, w := stream(t, http.Header{})
		go io.WriteString(w, "<"+canary[:9])
		expect(t, resp.Body, "<"+canary[:9])
		go func() {
			_, _ = io.WriteString(w, canary[9:]+" and "+canary)
			_ = w.Close()
		}()
		rest, err := io.ReadAll(resp.Body)
		if want := strings.Repeat("*", len(canary)-9) + " and " + strings.Repeat("*", len(canary)); err != nil || string(rest) != want {
			t.Errorf("read %q, %v", rest, err)
		}
	})
}

// A body that is closed while its source is silent leaves nothing behind: the
// bubble waits for every goroutine.
func TestCloseDuringASilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resp, w := stream(t, http.Header{})
		go io.WriteString(w, "held")
		expect(t, resp.Body, "held")
		done := make(chan error)
		go func() {
			_, err := resp.Body.Read(make([]byte, 100))
			done <- err
		}()
		synctest.Wait()
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err == nil {
			t.Error("a Read of a closed body gave no error")
		}
	})
}

// The end of a message of gRPC is known, so nobody waits for it, whatever it
// ends with, and however it comes.
func TestMessagesOfGRPCAreNotHeldBack(t *testing.T) {
	for _, kind := range []string{"application/grpc", "application/grpc+proto", "application/connect+json"} {
		resp, w := stream(t, http.Header{"Content-Type": {kind}})
		for _, message := range []string{"\x00\x00\x00\x00\x05\x0a\x03bob", "\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x01s\x00\x00\x00\x00\x02sk"} {
			for _, size := range []int{1, 3, len(message)} {
				go func() {
					for rest := message; rest != ""; rest = rest[min(size, len(rest)):] {
						_, _ = io.WriteString(w, rest[:min(size, len(rest))])
					}
				}()
				expect(t, resp.Body, message)
			}
		}
		go func() {
			_, _ = io.WriteString(w, "\x00\x00\x00\x00"+string(rune(len(canary)))+canary[:5])
			_, _ = io.WriteString(w, canary[5:])
		}()
		expect(t, resp.Body, "\x00\x00\x00\x00"+string(rune(len(canary)))+strings.Repeat("*", len(canary)))
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A message may say that it is compressed where the head does not say how.
func TestCompressedMessagesAreRefused(t *testing.T) {
	for _, kind := range []string{"application/grpc", "application/grpc-web+proto", "application/connect+proto"} {
		resp := response("\x00\x00\x00\x00\x01a\x01\x00\x00\x00\x01b")
		resp.Header.Set("Content-Type", kind)
		if err := newRedactor().Response(resp); err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(resp.Body); !errors.Is(err, ErrEncoding) || strings.Contains(string(text), "b") {
			t.Errorf("%s: passed on %q, %v", kind, text, err)
		}
	}
}

func TestFrames(t *testing.T) {
	tests := []struct {
		text string
		open int
	}{
		{"", 0}, {"\x00", 1}, {"\x00\x00\x00\x00\x02", 5}, {"\x00\x00\x00\x00\x02a", 6}, {"\x00\x00\x00\x00\x02ab", 0},
		{"\x00\x00\x00\x00\x02ab\x01\x00\x00", 3}, {"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 0}, {"\x00\xff\xff\xff\xffab", 7},
	}
	for _, tt := range tests {
		for size := 1; size <= max(1, len(tt.text)); size++ {
			var f frames
			for rest := tt.text; rest != ""; rest = rest[min(size, len(rest)):] {
				if _, err := f.open([]byte(rest[:min(size, len(rest))])); err != nil {
					t.Error(err)
				}
			}
			if got, err := f.open(nil); got != tt.open || err != nil {
				t.Errorf("%q by %d: %d, %v", tt.text, size, got, err)
			}
		}
	}
}

// An HTTP/2 upstream may be silent between a body's last byte and its end.
func TestBodyOfKnownLengthEndsWithItsLastByte(t *testing.T) {
	never, writer := io.Pipe()
	defer writer.Close()
	text := "held-back-to-the-last-byte"
	resp := &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{}, ContentLength: int64(len(text)),
		Body: struct {
			io.Reader
			io.Closer
		}{io.MultiReader(strings.NewReader(text), never), never},
	}
	if err := New(api.Material{Token: []byte("a-token-of-some-length")}, nil).Response(resp); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text)+1)
	n, err := io.ReadFull(resp.Body, got)
	if string(got[:n]) != text || err != io.ErrUnexpectedEOF {
		t.Errorf("read %q, %v", got[:n], err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
}
