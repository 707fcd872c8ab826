package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// A body that comes in pieces arrives as it was sent, byte by byte.
func TestUploadInPieces(t *testing.T) {
	body := make([]byte, 100_000)
	if _, err := rand.Read(body); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		fmt.Fprint(w, err == nil && bytes.Equal(got, body))
	})
	for _, head := range []string{"Content-Length: 100000\r\n", "Content-Length: 100000\r\nExpect: 100-continue\r\n", "Transfer-Encoding: chunked\r\n"} {
		for _, piece := range []int{1000, 33_000, len(body)} {
			c, err := net.Dial("tcp", w.address)
			if err != nil {
				t.Fatal(err)
			}
			send := func(text string, args ...any) {
				if _, err := fmt.Fprintf(c, text, args...); err != nil {
					t.Error(err)
				}
			}
			chunked := head[0] == 'T'
			send("PUT / HTTP/1.1\r\nHost: example.com\r\n%s\r\n", head)
			var sending sync.WaitGroup
			sending.Go(func() {
				for rest := body; len(rest) > 0; {
					now := rest[:min(piece, len(rest))]
					rest = rest[len(now):]
					time.Sleep(time.Millisecond) // so that it is a piece of its own
					if chunked {
						send("%x\r\n%s\r\n", len(now), now)
					} else {
						send("%s", now)
					}
				}
				if chunked {
					send("0\r\n\r\n")
				}
			})
			in := bufio.NewReader(c)
			response, err := http.ReadResponse(in, nil)
			for err == nil && response.StatusCode == http.StatusContinue {
				response, err = http.ReadResponse(in, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(response.Body)
			if err != nil || string(text) != "true" {
				t.Errorf("%q in pieces of %d bytes: the upstream got the same: %s, %v", head, piece, text, err)
			}
			sending.Wait()
			c.Close()
		}
	}
}
