package scan

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A message whose end may begin a placeholder reaches a server that answers
// only whole messages.
func TestMessagesComeWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		body := scanner().Reader(pr, block)
		for _, message := range []string{"msg v", "abc%", "msg vault:strip", "dXM6dmF1bHQ6c3Ry"} {
			go io.WriteString(pw, message)
			buf := make([]byte, len(message))
			if _, err := io.ReadFull(body, buf); err != nil || string(buf) != message {
				t.Fatalf("read %q, %v", buf, err)
			}
		}
		if err := body.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A pause within a placeholder does not let it through, nor does one after it.
func TestPlaceholderAroundASilence(t *testing.T) {
	for _, parts := range [][]string{{"key=vault:str", "ipe "}, {"key=vault:stripe"}, {"key=v", "ault%3", "agh."}, {"dXM6dmF1bHQ6", "c3RyaXBl"}} {
		synctest.Test(t, func(t *testing.T) {
			pr, pw := io.Pipe()
			body := scanner().Reader(pr, block)
			var out strings.Builder
			written := make(chan struct{})
			go func() {
				defer close(written)
				for i, part := range parts {
					if i > 0 {
						time.Sleep(time.Second) // of the bubble: a silence
					}
					if _, err := io.WriteString(pw, part); err != nil {
						return
					}
				}
			}()
			_, err := io.Copy(&out, body)
			var stray *StrayError
			if !errors.As(err, &stray) {
				t.Errorf("%q: %v", parts, err)
			}
			if got, found := scanner().String(out.String()); found {
				t.Errorf("handed out %s", got)
			}
			if err := body.Close(); err != nil {
				t.Fatal(err)
			}
			<-written
		})
	}
}
