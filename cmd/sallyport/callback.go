package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// browserPatience is how long a person in a browser may take.
const browserPatience = 10 * time.Minute

// callback takes the one answer that a browser brings to an address of this machine (RFC
// 8252) with the state of what was begun here. To all else it says the same, and goes on
// waiting: any page in the browser can send it something.
type callback struct {
	redirect *url.URL
	state    string
	issuer   string                 // if it is known, an answer that names another is none (RFC 9207)
	named    bool                   // an answer that names none is none either
	refusal  func(url.Values) error // what an answer without a code means
	codes    chan string
	errs     chan error
}

func newCallback(redirect, issuer string, refusal func(url.Values) error) (*callback, error) {
	u, err := url.Parse(redirect)
	if err != nil {
		return nil, fmt.Errorf("read the redirect: %w", err)
	}
	return &callback{redirect: u, state: rand.Text(), issuer: issuer, refusal: refusal, codes: make(chan string, 1), errs: make(chan error, 1)}, nil
}

// await answers browsers on listener, which it closes, and gives the code that one brings.
func (b *callback) await(ctx context.Context, listener net.Listener) (code string, err error) {
	patient, cancel := context.WithTimeout(ctx, browserPatience)
	defer cancel()
	server := &http.Server{Handler: b, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		// What is on its way to the browser gets there.
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(drain) != nil {
			server.Close()
		}
	}()
	select {
	case code := <-b.codes:
		return code, nil
	case err := <-b.errs:
		return "", err
	case err := <-served:
		return "", fmt.Errorf("wait for the browser: %w", err)
	case <-patient.Done():
		if ctx.Err() == nil {
			return "", errors.New("no browser came back with an answer in time: begin again")
		}
		return "", ctx.Err()
	}
}

func (b *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	q := r.URL.Query()
	if r.Method != http.MethodGet || r.URL.Path != cmp.Or(b.redirect.Path, "/") || r.Host != b.redirect.Host ||
		subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(b.state)) != 1 || !b.ofIssuer(q["iss"]) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintln(w, "This is no answer to a login that was begun here.")
		return
	}
	if code := q.Get("code"); code != "" {
		select {
		case b.codes <- code:
		default: // there was one
		}
		fmt.Fprintln(w, "You can close this page; sallyport goes on in the terminal.")
		return
	}
	select {
	case b.errs <- b.refusal(q):
	default:
	}
	fmt.Fprintln(w, "It was refused; the terminal says why.")
}

// ofIssuer reports whether an answer that names those issuers can be ours.
func (b *callback) ofIssuer(iss []string) bool {
	if b.issuer == "" || len(iss) == 0 {
		return !b.named
	}
	return len(iss) == 1 && iss[0] == b.issuer
}
