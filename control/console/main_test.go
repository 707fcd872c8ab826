package console_test

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sallyport/control/console"
	"sallyport/control/controltest"
)

var plane *controltest.Plane

func TestMain(m *testing.M) {
	controltest.Main(m, &plane, func(p *controltest.Plane) error {
		p.Admin.Test = try
		return nil
	})
}

// served is the console on an address of this machine.
func served(t *testing.T) string {
	t.Helper()
	c, err := console.New(plane.Admin, "")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	return server.URL
}

// browser is what a browser sends by itself.
type browser struct {
	cookie string // as name=value
	header http.Header
}

// ask sends a request and follows no redirect.
func ask(t *testing.T, method, url, body string, b browser) controltest.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	maps.Copy(r.Header, b.header)
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
		r.Header.Del("Host")
	}
	if b.cookie != "" {
		r.Header.Set("Cookie", b.cookie)
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return controltest.Response{Status: answer.StatusCode, Header: answer.Header, Body: string(text)}
}
