package gate

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// PeekAll checks that peeking takes nothing away: what is read afterwards is
// what was sent.
func PeekAll(t *testing.T, data []byte) {
	client, server := net.Pipe()
	go func() {
		client.Write(data)
		client.Close()
	}()
	defer server.Close()
	c := newConn(server, &Flow{})
	if err := peek(c); err != nil {
		return
	}
	if got, _ := io.ReadAll(c); !bytes.Equal(got, data) {
		t.Errorf("read %q after peeking, sent %q", got, data)
	}
}

// SetIdle changes how long a flow that is passed through may be silent.
func (g *Gate) SetIdle(d time.Duration) { g.idle = d }

// SetMost changes how many connections to routes there may be.
func (g *Gate) SetMost(n int64) { g.most = n }
