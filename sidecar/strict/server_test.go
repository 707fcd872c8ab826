package strict

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// oneConn is a listener that has one connection.
type oneConn chan net.Conn

func (l oneConn) Accept() (net.Conn, error) {
	c, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l oneConn) Close() error   { return nil }
func (l oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// serve has net/http serve a connection through a Conn and gives the client's side.
func serve(t *testing.T, handler http.HandlerFunc) net.Conn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conns := make(oneConn, 1)
	conns <- NewConn(accepted, Limits{})
	server := &http.Server{Handler: handler, DisableGeneralOptionsHandler: true, ConnState: func(c net.Conn, s http.ConnState) {
		if s == http.StateHijacked {
			c.(*Conn).Release()
		}
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(conns)
	}()
	t.Cleanup(func() {
		_ = client.Close()
		close(conns)
		<-done
		if err := server.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return client
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var e *Error
	if errors.As(err, &e) {
		w.WriteHeader(e.Status)
		fmt.Fprint(w, e.Code)
		return
	}
	fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, r *bufio.Reader) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestServerPipelinesAndRefuses(t *testing.T) {
	c := serve(t, echo)
	r := bufio.NewReader(c)
	send(t, c, "PUT /1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\none"+chunked("3\r\ntwo\r\n0\r\nA: b\r\n\r\n")+
		"GET /3 HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\nGET /4 HTTP/1.1\r\nHost: a.test\r\n\r\n")
	for _, want := range []string{"PUT /1 one", "POST / two"} {
		if _, body := receive(t, r); body != want {
			t.Errorf("got %q, want %q", body, want)
		}
	}
	resp, body := receive(t, r)
	if resp.StatusCode != 400 || resp.Header.Get("Sallyport-Error") != "malformed_request" || !strings.Contains(body, "one Host") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
		t.Errorf("after the refusal: %q, %v", rest, err)
	}
}

func TestServerRefusalInBodyIsTheHandlers(t *testing.T) {
	c := serve(t, echo)
	r := bufio.NewReader(c)
	send(t, c, chunked("3;x=y\r\ntwo\r\n0\r\n\r\n")+good)
	if resp, body := receive(t, r); resp.StatusCode != 400 || body != "malformed_request" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if rest, err := io.ReadAll(r); len(rest) > 0 {
		t.Errorf("after the refusal: %q, %v", rest, err)
	}
}

func TestServerUpgrade(t *testing.T) {
	c := serve(t, func(_ http.ResponseWriter, _ *http.Request) {})
	r := bufio.NewReader(c)
	send(t, c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"+good)
	for range 2 { // declined, so what follows is the next request
		if resp, _ := receive(t, r); resp.StatusCode != 200 {
			t.Errorf("status %d", resp.StatusCode)
		}
	}

	c = serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		if err := rw.Flush(); err != nil {
			t.Error(err)
		}
		if _, err := io.Copy(conn, rw); err != nil {
			t.Error(err)
		}
	})
	r = bufio.NewReader(c)
	send(t, c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v, %v", resp, err)
	}
	send(t, c, "\x00\n\x81 raw")
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || string(rest) != "\x00\n\x81 raw" {
		t.Errorf("%q, %v", rest, err)
	}
}
