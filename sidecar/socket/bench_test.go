package socket_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"sallyport/sidecar/socket"
)

// BenchmarkFrames passes 4 MiB of messages on: by a bare io.Copy, as where there is
// no credential, and searched.
func BenchmarkFrames(b *testing.B) {
	text := strings.Repeat(`{"type":"delta","id":"evt_01H","text":"some words of an answer","n":1234}, `, 1<<10)
	for _, size := range []int{100, 4 << 10, 64 << 10} {
		for way, side := range map[string]socket.Side{"copy": -1, "server": socket.Server, "client": socket.Client} {
			b.Run(fmt.Sprintf("%s/%d", way, size), func(b *testing.B) {
				frames := bytes.Repeat(of(max(side, 0), 0x81, text[:size]), (4<<20)/size)
				var to io.Writer = struct{ io.Writer }{io.Discard}
				switch side {
				case socket.Server:
					to = socket.NewWriter(to, side, secrets())
				case socket.Client:
					to = socket.NewWriter(to, side, names("vault:stripe", true))
				}
				buffer := make([]byte, 32<<10)
				b.SetBytes(int64(len(frames)))
				for b.Loop() {
					if _, err := io.CopyBuffer(to, struct{ io.Reader }{bytes.NewReader(frames)}, buffer); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
