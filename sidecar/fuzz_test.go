package sidecar

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"sallyport/control/api"
	"sallyport/sidecar/gate"
)

// What net/http takes for a request is never taken for another protocol, which
// might be passed through unread; and one that names a host is known to.
func FuzzSpoken(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "\r\n\r\nGET / HTTP/1.0\r\n\r\n", "SSH-2.0-OpenSSH\r\n", "SSH- / HTTP/1.1\nHost: a.test\n\n", "PING\r\n", "x y\r\n\r\n",
		"GET http://b.test/ HTTP/1.1\r\nHost: a.test:80\r\n\r\n", "CONNECT a.test:443 HTTP/1.1\r\n\r\n", "GET\x0b/ HTTP/1.1\r\nHost: a\r\n\r\n", "*1\r\n$4\r\nPING\r\n", "\x16\x03\x01",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		flow := new(gate.Flow)
		looks, names := looksHTTP(flow, bytes.NewReader(said)), namesHost(flow, bytes.NewReader(said))
		speaks := speaksHTTP(bytes.NewReader(said))
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(said)))
		if err != nil {
			return
		}
		host, _, _ := strings.Cut(r.Host, ":")
		_, err = api.NormalizeHost(host)
		if !looks || !speaks || err == nil && !names {
			t.Fatalf("%q is a request for %q: looks so %v, speaks so %v, names a host %v", said, r.Host, looks, speaks, names)
		}
	})
}
