package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// No more requests are under way than may be; when some have ended there is room.
func TestRequestsAreBounded(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			began <- struct{}{}
			<-release
		}
	})
	w.SetLoad(2, 1<<62)
	var waiting []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", w.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "GET /wait HTTP/1.1\r\nHost: example.com\r\n\r\n")
		<-began
		waiting = append(waiting, c)
	}
	response := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")[0]
	if response.StatusCode != 503 || response.Header.Get("Retry-After") == "" || code(t, response) != "too_many_requests" {
		t.Errorf("the third request: %s %v", response.Status, response.Header)
	}
	close(release)
	for _, c := range waiting {
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Error(err)
		}
	}
	if response := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")[0]; response.StatusCode != 200 {
		t.Errorf("afterwards: %s", response.Status)
	}
}

// Where memory is short, a client that takes nothing of its response loses it, and
// long heads are not taken; all else goes on.
func TestShortOfMemory(t *testing.T) {
	release := make(chan struct{})
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/long":
			for err := error(nil); err == nil; {
				_, err = rw.Write(make([]byte, 64<<10))
			}
		case "/wait":
			<-release
		}
	})
	w.SetLoad(100, 0)
	open := func(path string) net.Conn {
		c, err := net.Dial("tcp", w.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: example.com\r\n\r\n", path)
		return c
	}
	patient := open("/wait")
	open("/long") // and nothing of it is read
	if x := w.last(t); x.Path != "/long" || x.Reason == "" {
		t.Errorf("ended first: %+v", x)
	}
	response := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\nA: "+strings.Repeat("a", 10<<10)+"\r\n\r\n")[0]
	if code(t, response) != "too_many_requests" {
		t.Errorf("a long head: %s", response.Status)
	}
	close(release)
	_ = patient.SetReadDeadline(time.Now().Add(10 * time.Second))
	if response, err := http.ReadResponse(bufio.NewReader(patient), nil); err != nil || response.StatusCode != 200 {
		t.Errorf("a client that waited: %v, %v", response, err)
	} else if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Error(err)
	}
}

// Where no more requests may begin, one whose response nobody reads goes.
func TestStalledRequestsMakeRoom(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		for err := error(nil); err == nil && r.URL.Path == "/long"; {
			_, err = rw.Write(make([]byte, 64<<10))
		}
	})
	w.SetLoad(1, 1<<62)
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /long HTTP/1.1\r\nHost: example.com\r\n\r\n")
	if x := w.last(t); x.Path != "/long" || x.Reason == "" {
		t.Errorf("ended: %+v", x)
	}
	if response := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")[0]; response.StatusCode != 200 {
		t.Errorf("afterwards: %s", response.Status)
	}
}
