package redact

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func message(flags byte, text string) string {
	head := []byte{flags, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(head[1:], uint32(len(text)))
	return string(head) + text
}

// TestCompressedMessages has a server echo the credential in messages that it
// packs one by one.
func TestCompressedMessages(t *testing.T) {
	masked := strings.Repeat("*", len(canary))
	for _, tt := range []struct{ kind, field, coding string }{
		{"application/grpc", "Grpc-Encoding", "gzip"}, {"application/grpc+proto", "Grpc-Encoding", "deflate"},
		{"application/grpc-web+proto", "Grpc-Encoding", "gzip"}, {"application/connect+json", "Connect-Content-Encoding", "zstd"},
	} {
		packed := func(text string) string { return message(1, compress(t, tt.coding, text)) }
		resp := response(packed("a "+canary+" b") + message(0, canary) + message(1, "") + packed("") + message(2, "end"))
		resp.Header.Set("Content-Type", tt.kind)
		resp.Header.Set(tt.field, tt.coding)
		resp.Body = io.NopCloser(iotest.OneByteReader(resp.Body))
		if err := newRedactor().Response(resp); err != nil {
			t.Fatal(err)
		}
		want := message(0, "a "+masked+" b") + message(0, masked) + message(0, "") + message(0, "") + message(2, "end")
		if got := read(t, resp); got != want {
			t.Errorf("%s: got %q, want %q", tt.kind, got, want)
		}
		if h := resp.Header; h.Get(tt.field) != "identity" || h.Get("Content-Length") != "" || resp.ContentLength != -1 {
			t.Errorf("%s: head %v, length %d", tt.kind, h, resp.ContentLength)
		}
	}
}

func TestBrokenMessages(t *testing.T) {
	bomb := compress(t, "gzip", strings.Repeat("\x00", 2*maxMessage))
	for _, tt := range []struct {
		name, body string
		want       error
	}{
		{"no gzip", message(1, "not gzip at all"), nil},
		{"cut short", message(1, compress(t, "gzip", canary))[:20], io.ErrUnexpectedEOF},
		{"bomb", message(1, bomb), ErrMessage},
		{"long", "\x01\xff\xff\xff\xff", ErrMessage},
	} {
		resp := response(tt.body)
		resp.Header.Set("Content-Type", "application/grpc")
		resp.Header.Set("Grpc-Encoding", "gzip")
		if err := newRedactor().Response(resp); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || len(got) > 0 {
			t.Errorf("%s: %d bytes, %v; want %v", tt.name, len(got), err, tt.want)
		}
	}
}
