package main

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"strings"
)

// testCase is bytes to be sent after the handshake.
type testCase struct {
	name       string
	sent       []byte
	chop       int    // bytes a write; 0: all at once
	extensions string // offered
}

// Opcodes of RFC 6455 section 5.2, and its bit for the last fragment.
const (
	more  = 0x0
	text  = 0x1
	data  = 0x2
	close = 0x8
	ping  = 0x9
	pong  = 0xa
	final = 0x80
)

// frame is a masked frame.
func frame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	key := []byte{0x37, 0xfa, 0x21, 0x3d}
	b = append(b, key...)
	for i, c := range payload {
		b = append(b, c^key[i%4])
	}
	return b
}

func closing(code uint16, reason string) []byte {
	return frame(final|close, append(binary.BigEndian.AppendUint16(nil, code), reason...))
}

func letters(n int) []byte { return bytes.Repeat([]byte("*"), n) }

// cases are those of Autobahn's list, by its sections, without compression.
func cases() []testCase {
	var all []testCase
	add := func(name string, chop int, frames ...[]byte) {
		all = append(all, testCase{name: name, chop: chop, sent: append(bytes.Join(frames, nil), closing(1000, "")...)})
	}
	for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536} {
		for _, chop := range []int{0, 997} {
			add(fmt.Sprintf("1.1 text of %d by %d", n, chop), chop, frame(final|text, letters(n)))
			add(fmt.Sprintf("1.2 binary of %d by %d", n, chop), chop, frame(final|data, letters(n)))
		}
	}
	for _, n := range []int{0, 5, 125, 126} {
		add(fmt.Sprintf("2 ping of %d", n), 0, frame(final|ping, letters(n)))
		add(fmt.Sprintf("2 ping of %d by 1", n), 1, frame(final|ping, letters(n)))
	}
	add("2 unasked pong", 0, frame(final|pong, nil), frame(final|ping, []byte("x")))
	add("2 ten pings", 0, bytes.Repeat(frame(final|ping, []byte("payload")), 10))
	for bits := byte(1); bits < 8; bits++ {
		add(fmt.Sprintf("3 reserved bits %d", bits), 0, frame(final|text, []byte("Hello")), frame(final|bits<<4|text, []byte("Hello")))
		add(fmt.Sprintf("3 reserved bits %d of a ping", bits), 0, frame(final|bits<<4|ping, nil))
	}
	for _, opcode := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		add(fmt.Sprintf("4 opcode %d", opcode), 0, frame(final|opcode, []byte("x")))
	}
	for _, chop := range []int{0, 1} {
		by := fmt.Sprintf(" by %d", chop)
		add("5 fragmented ping"+by, chop, frame(ping, []byte("a")), frame(final|more, []byte("b")))
		add("5 two fragments"+by, chop, frame(text, []byte("one ")), frame(final|more, []byte("two")))
		add("5 ping between"+by, chop, frame(text, []byte("one ")), frame(final|ping, []byte("p")), frame(final|more, []byte("two")))
		add("5 continued from nothing"+by, chop, frame(final|more, []byte("x")))
		add("5 begun twice"+by, chop, frame(text, []byte("one")), frame(final|text, []byte("two")))
		add("5 fifty fragments"+by, chop, frame(data, []byte("0")), bytes.Repeat(frame(more, []byte("1")), 48), frame(final|more, []byte("2")))
	}
	for _, s := range []string{"κόσμε \U0001f600", "a\xed\xa0\x80b", "\xc0\x80", "\xf4\x90\x80\x80", "\xce"} {
		add(fmt.Sprintf("6 utf-8 %q", s), 0, frame(final|text, []byte(s)))
		add(fmt.Sprintf("6 utf-8 %q in fragments", s), 1, frame(text, []byte(s[:1])), frame(final|more, []byte(s[1:])))
	}
	add("7 messages after the close", 0, closing(1000, ""), frame(final|text, []byte("late")))
	for _, code := range []uint16{0, 999, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1011, 1012, 1016, 1100, 2999, 3000, 3999, 4000, 4999, 5000, 65535} {
		add(fmt.Sprintf("7 close %d", code), 0, closing(code, "why"))
	}
	add("7 close of nothing", 0, frame(final|close, nil))
	add("7 close of one byte", 0, frame(final|close, []byte("x")))
	add("7 close with a long reason", 0, closing(1000, strings.Repeat("r", 123)))
	add("7 close with too long a reason", 0, closing(1000, strings.Repeat("r", 124)))
	for _, n := range []int{64 << 10, 1 << 20, 16 << 20, 64 << 20} {
		add(fmt.Sprintf("9 binary of %d", n), 0, frame(final|data, letters(n)))
	}
	for _, n := range []int{64, 1024, 65536} {
		fragments := [][]byte{frame(data, letters(n))}
		for range (1<<20)/n - 2 {
			fragments = append(fragments, frame(more, letters(n)))
		}
		add(fmt.Sprintf("9 a MiB in fragments of %d", n), 0, append(fragments, frame(final|more, letters(n)))...)
	}
	add("9 a MiB by 64", 64, frame(final|data, letters(1<<20)))
	return all
}

// compressed are messages with permessage-deflate (RFC 7692).
func compressed() []testCase {
	var all []testCase
	for _, offer := range []string{"permessage-deflate", "permessage-deflate; client_no_context_takeover; server_no_context_takeover"} {
		for _, n := range []int{16, 1 << 10, 128 << 10, 4 << 20} {
			var packed bytes.Buffer
			w, _ := flate.NewWriter(&packed, flate.DefaultCompression) // fails for other levels only
			w.Write(bytes.Repeat([]byte("compressible text 0123456789 "), n/29+1)[:n])
			w.Flush()
			payload := bytes.TrimSuffix(packed.Bytes(), []byte("\x00\x00\xff\xff"))
			all = append(all, testCase{
				name: fmt.Sprintf("12 %d compressed, %s", n, offer), extensions: offer,
				sent: append(frame(final|0x40|text, payload), closing(1000, "")...),
			})
		}
	}
	return all
}
