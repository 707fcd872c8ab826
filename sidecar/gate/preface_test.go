package gate_test

import (
	"io"
	"testing"
	"time"

	"sallyport/sidecar/gate"
)

// TestPreface tells HTTP/2 by prior knowledge from all that is not, however its
// bytes come, and takes none of them away.
func TestPreface(t *testing.T) {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	tests := []struct {
		name, sent, protocol string
		dribble              bool
	}{
		{"whole", preface + "more", "h2", false},
		{"dribbled", preface, "h2", true},
		{"post", "POST / HTTP/1.1\r\nHost: a\r\n\r\n", "", false},
		{"post dribbled", "POST / HTTP/1.1\r\n", "", true},
		{"get", "GET / HTTP/1.1\r\n\r\n", "", false},
		{"pri of another version", "PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n", "", false},
		{"pri and no more", "PRI *", "", false},
		{"one letter", "P", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 80)
			c := w.dial(t)
			go func() {
				defer c.(interface{ CloseWrite() error }).CloseWrite()
				if !tt.dribble {
					io.WriteString(c, tt.sent)
					return
				}
				for i := range len(tt.sent) {
					io.WriteString(c, tt.sent[i:i+1])
					time.Sleep(time.Millisecond)
				}
			}()
			passed, err := w.gate.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer passed.Close()
			if got := gate.FlowOf(passed).Protocol; got != tt.protocol {
				t.Errorf("the protocol is %q, want %q", got, tt.protocol)
			}
			if got, err := io.ReadAll(passed); err != nil || string(got) != tt.sent {
				t.Errorf("read %q, %v; sent %q", got, err, tt.sent)
			}
		})
	}
}
