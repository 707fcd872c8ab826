package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/netsetup"
	"sallyport/sidecar/mint"
)

const host = "api.example.test"

// origin answers every request with a JSON body of 1 KiB. Its arguments are a
// listening address, a certificate and its key.
func origin(args []string) error {
	body := []byte(`{"text":"` + strings.Repeat("x", 1024-11) + `"}`)
	server := &http.Server{Addr: args[0], Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	})}
	return server.ListenAndServeTLS(args[1], args[2])
}

// client asks over kept connections as each line of its input says: so many
// requests, over so many connections. Its arguments are the address to dial and
// a file of authorities.
func client(args []string) error {
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	roots.AppendCertsFromPEM(pem)
	var transports []*http.Transport // one a connection
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var n, connections int
		if _, err := fmt.Sscan(lines.Text(), &n, &connections); err != nil {
			return err
		}
		for len(transports) < connections {
			transports = append(transports, &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: roots},
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", args[0])
				},
			})
		}
		took := make([]time.Duration, n/connections*connections)
		var group errgroup.Group
		for i, transport := range transports[:connections] {
			group.Go(func() error {
				for at := i; at < len(took); at += connections {
					begun := time.Now()
					if err := get(transport); err != nil {
						return err
					}
					took[at] = time.Since(begun)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		slices.Sort(took)
		if err := json.NewEncoder(os.Stdout).Encode(sample{P50: took[len(took)/2], P99: took[len(took)*99/100]}); err != nil {
			return err
		}
	}
	return nil
}

func get(transport *http.Transport) error {
	request, err := http.NewRequest("GET", "https://"+host+"/", nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || len(body) != 1024 {
		return fmt.Errorf("status %d, %d bytes: %s", response.StatusCode, len(body), body)
	}
	return nil
}

// floor seals a namespace, starts the client in it, and copies bytes between TLS
// to it and TLS to the origin. Its arguments are the origin's address, a file of
// authorities, and where to write its own.
func floor(args []string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	namespace, err := netsetup.Seal(ctx, netsetup.Config{})
	if err != nil {
		return err
	}
	defer namespace.Close()
	authority, err := mint.New()
	if err != nil {
		return err
	}
	if err := os.WriteFile(args[2], authority.CertificatePEM(), 0o600); err != nil {
		return err
	}
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	roots.AppendCertsFromPEM(pem)
	server := &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return authority.Leaf(hello.Context(), hello.ServerName)
	}}
	go func() {
		for {
			inner, err := namespace.TCP().Accept()
			if err != nil {
				return
			}
			go splice(tls.Server(inner, server), args[0], &tls.Config{RootCAs: roots, ServerName: host})
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "client", sandboxAddress, args[2])
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := namespace.Do(cmd.Start); err != nil {
		return err
	}
	return cmd.Wait()
}

func splice(inner *tls.Conn, address string, config *tls.Config) {
	defer inner.Close()
	outer, err := tls.Dial("tcp", address, config)
	if err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		return
	}
	defer outer.Close()
	var both sync.WaitGroup
	both.Go(func() { pass(outer, inner) })
	both.Go(func() { pass(inner, outer) })
	both.Wait()
}

func pass(to, from *tls.Conn) {
	if _, err := io.Copy(to, from); err != nil && !errors.Is(err, net.ErrClosed) {
		fmt.Fprintln(os.Stderr, "floor:", err)
	}
	to.CloseWrite()
}

// sandboxAddress is dialled inside: any address is redirected.
const sandboxAddress = "192.0.2.1:443"
