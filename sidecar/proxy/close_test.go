package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"sallyport/sidecar/proxy"
)

// closing is a body that tells of its end.
type closing struct {
	io.ReadCloser
	closed chan struct{}
}

func (c *closing) Close() error {
	c.closed <- struct{}{}
	return c.ReadCloser.Close()
}

// TestEditedBodyIsClosed: what a plan puts in a body's place, to search it, is closed with
// the exchange, also where its client has left in the middle.
func TestEditedBodyIsClosed(t *testing.T) {
	for _, path := range []string{"/whole", "/left"} {
		w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprint(rw, "some words")
			if r.URL.Path == "/left" {
				_ = http.NewResponseController(rw).Flush()
				<-r.Context().Done()
			}
		})
		closed := make(chan struct{}, 1)
		w.plan.Response = func(r *http.Response) error {
			r.Body = &closing{r.Body, closed}
			return nil
		}
		conn, err := net.Dial("tcp", w.address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: example.com\r\n\r\n", path); err == nil {
			_, err = bufio.NewReader(conn).ReadString('\n')
		}
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		select {
		case <-closed:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the body was not closed", path)
		}
	}
}

// TestRefusedBodyIsClosed: the same of a request's body, where the plan refuses it when
// it has read some of that.
func TestRefusedBodyIsClosed(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("a refused request arrived") })
	closed := make(chan struct{}, 1)
	w.plan.Request = func(r *http.Request) error {
		r.Body = &closing{r.Body, closed}
		_, _ = r.Body.Read(make([]byte, 1))
		return proxy.Errorf(http.StatusBadRequest, "body_too_long_to_sign", "no")
	}
	response := w.raw(t, "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 4\r\n\r\nbody")[0]
	if got := code(t, response); got != "body_too_long_to_sign" {
		t.Errorf("the answer is %s", got)
	}
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("the body was not closed")
	}
}
