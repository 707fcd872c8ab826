package socket

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// Side is who sends frames.
type Side int

// Clients mask their frames, servers do not (RFC 6455 section 5.1).
const (
	Server Side = iota
	Client
)

// ErrMalformed reports a frame that RFC 6455 does not allow, or one that a
// connection without extensions can't have.
var ErrMalformed = errors.New("a WebSocket frame is malformed")

// Opcodes, RFC 6455 section 5.2.
const (
	opContinue = 0x0
	opText     = 0x1
	opBinary   = 0x2
	opClose    = 0x8
	opPing     = 0x9
	opPong     = 0xa
)

const (
	final      = 0x80
	reserved   = 0x70
	masked     = 0x80
	maxControl = 125
)

// frame is what the head of a frame says.
type frame struct {
	final  bool
	opcode byte
	key    uint32 // little-endian; 0 for none
	length uint64 // of the payload
}

func (f frame) control() bool { return f.opcode >= opClose }

// parse reads the head of a frame, of n bytes. n is 0 where more is to come. The
// head of a malformed frame is as long as its own words have it.
func (s Side) parse(b []byte) (f frame, n int, err error) {
	if len(b) < 2 {
		return f, 0, nil
	}
	n = 2
	switch b[1] &^ masked {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	keyAt := n
	if b[1]&masked != 0 {
		n += 4
	}
	if len(b) < n {
		return f, 0, nil
	}
	f = frame{final: b[0]&final != 0, opcode: b[0] & 0xf, length: uint64(b[1] &^ masked)}
	switch f.length {
	case 126:
		f.length = uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		f.length = binary.BigEndian.Uint64(b[2:])
	}
	if n > keyAt {
		f.key = binary.LittleEndian.Uint32(b[keyAt:])
	}
	switch {
	case b[0]&reserved != 0, f.length>>63 != 0, (n > keyAt) != (s == Client):
		err = ErrMalformed
	case f.control():
		if f.opcode > opPong || !f.final || f.length > maxControl {
			err = ErrMalformed
		}
	case f.opcode > opBinary:
		err = ErrMalformed
	}
	return f, n, err
}

// mask copies src to dst under a key that begins anew at 0 (RFC 6455 section 5.3).
func mask(dst, src []byte, key uint32) {
	if key == 0 {
		copy(dst, src)
		return
	}
	wide, i := uint64(key)<<32|uint64(key), 0
	for ; i+8 <= len(src); i += 8 {
		binary.LittleEndian.PutUint64(dst[i:], binary.LittleEndian.Uint64(src[i:])^wide)
	}
	for ; i < len(src); i++ {
		dst[i] = src[i] ^ byte(wide>>(8*(i%8)))
	}
}

// turned is key as it is n bytes further on.
func turned(key uint32, n uint64) uint32 { return bits.RotateLeft32(key, -8*int(n%4)) }
