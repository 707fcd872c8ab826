// Command loader asks a host over and over, on several connections of HTTP/1.1 and of
// HTTP/2, each request until it is answered with 200. It says what came of it in a line
// of JSON, at each line of its input.
package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "loader:", err)
		os.Exit(1)
	}
}

// Report is what happened since the one before.
type Report struct {
	OK       int            // answered with 200
	Failed   map[string]int // attempts that were not, by status or "connection"
	Longest  int64          // milliseconds from a request's first attempt to its 200
	Leaks    int            // answers with the secret in them
	LastOK   int64          // Unix time in nanoseconds
	Attempts int
}

type loader struct {
	url, secret string
	ended       chan struct{}

	mu     sync.Mutex
	report Report
}

func run(args []string) error {
	l := &loader{ended: make(chan struct{})}
	flags := flag.NewFlagSet("loader", flag.ContinueOnError)
	connections := flags.Int("connections", 4, "connections")
	flags.StringVar(&l.secret, "secret", "", "what must not be in an answer")
	pause := flags.Duration("pause", time.Millisecond, "between requests of a connection")
	if err := flags.Parse(args); err != nil {
		return err
	}
	l.url = flags.Arg(0)
	l.take()
	var all sync.WaitGroup
	for i := range *connections {
		transport := &http.Transport{TLSClientConfig: &tls.Config{}, ForceAttemptHTTP2: i%2 == 0}
		client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
		all.Go(func() { l.ask(client, i, *pause) })
	}
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if err := json.NewEncoder(os.Stdout).Encode(l.take()); err != nil {
			return err
		}
	}
	close(l.ended)
	all.Wait()
	return json.NewEncoder(os.Stdout).Encode(l.take())
}

func (l *loader) take() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.report
	l.report = Report{Failed: map[string]int{}}
	return taken
}

func (l *loader) ask(client *http.Client, id int, pause time.Duration) {
	for n := 0; ; n++ {
		begin := time.Now()
		for attempt := 0; ; attempt++ {
			select {
			case <-l.ended:
				return
			default:
			}
			if n%20 == 0 {
				client.CloseIdleConnections()
			}
			if l.once(client, fmt.Sprintf("%s/%d/%d/%d", l.url, id, n, attempt), begin) {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(pause)
	}
}

// once makes one attempt.
func (l *loader) once(client *http.Client, url string, begin time.Time) bool {
	status, body := "connection", []byte(nil)
	response, err := client.Get(url)
	if err == nil {
		body, err = io.ReadAll(response.Body)
		response.Body.Close()
	}
	if err == nil {
		status = response.Status[:3]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report.Attempts++
	if l.secret != "" && strings.Contains(string(body), l.secret) {
		l.report.Leaks++
	}
	if status != "200" {
		l.report.Failed[status]++
		return false
	}
	l.report.OK++
	l.report.LastOK = time.Now().UnixNano()
	l.report.Longest = max(l.report.Longest, time.Since(begin).Milliseconds())
	return true
}
