package proxy

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// What a request was written through, or an answer read, keeps nothing of it.
func TestBuffersAreWiped(t *testing.T) {
	secret := strings.Repeat("canary-0123456789abcdef", 10)
	b := new(buffers)
	for _, broken := range []bool{false, true} {
		w := b.request(io.Discard)
		memory := w.AvailableBuffer()
		memory = memory[:cap(memory)]
		io.WriteString(w, secret)
		if !bytes.Contains(memory, []byte(secret)) {
			t.Fatal("this looks at the wrong memory")
		}
		if !broken {
			w.Flush()
		}
		b.putRequest(w)
		if bytes.Contains(memory, []byte("canary")) {
			t.Error("a request's buffer is not wiped")
		}
	}
	r := b.answer(strings.NewReader(secret))
	memory, err := r.Peek(len(secret))
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, r)
	b.putAnswer(r)
	if bytes.Contains(memory, []byte("canary")) {
		t.Error("an answer's buffer is not wiped")
	}
	if r = b.answer(strings.NewReader("next")); r.Buffered() != 0 {
		t.Error("the next answer begins with what wiped the last one")
	}
}
