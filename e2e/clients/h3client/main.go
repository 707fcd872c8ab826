// Command h3client asks for a URL as browsers do that expect HTTP/3: over QUIC, and
// when that fails over TCP. It prints what became of each, with the milliseconds it took.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/quic-go/quic-go/http3"
)

func main() {
	overQUIC := new(http3.Transport)
	defer overQUIC.Close()
	for _, way := range []struct {
		name      string
		transport http.RoundTripper
	}{{"quic", overQUIC}, {"tcp", http.DefaultTransport}} {
		start := time.Now()
		result, err := get(way.transport, os.Args[1])
		if err != nil {
			result = err.Error()
		}
		fmt.Printf("%s\t%d\t%s\n", way.name, time.Since(start).Milliseconds(), result)
		if err == nil {
			return
		}
	}
	os.Exit(1)
}

func get(transport http.RoundTripper, url string) (protocol string, err error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return "", err
	}
	return response.Proto, nil
}
