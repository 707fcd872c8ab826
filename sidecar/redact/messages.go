package redact

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// maxMessage bounds a compressed message of gRPC or Connect, packed and unpacked: it
// is read whole. gRPC's own limit is 4 MiB unless a client raises it.
const maxMessage = 16 << 20

// ErrMessage reports a compressed message that is too large to be looked into.
var ErrMessage = errors.New("the upstream's answer has a compressed message of more than 16 MiB")

// unpackMessages gives a body of gRPC or Connect messages without the compression
// that each may have of its own, and takes that from the head. Servers compress what
// they answer to a client that compresses, whatever they are asked for.
func unpackMessages(resp *http.Response, body io.Reader) (io.Reader, error) {
	for _, name := range []string{"Grpc-Encoding", "Connect-Content-Encoding"} {
		coding := resp.Header.Get(name)
		if coding == "" || coding == "identity" {
			continue
		}
		open, known := decoders[coding]
		if !known || openMessage(resp.Header) == nil {
			return nil, ErrEncoding
		}
		resp.Header.Set(name, "identity")
		resp.Header.Del("Content-Length")
		resp.ContentLength = -1
		body = &messages{in: body, open: open}
	}
	return body, nil
}

// messages unpacks those that say they are packed, one at a time.
type messages struct {
	in   io.Reader
	open func(*bufio.Reader) (io.Reader, error)
	out  []byte // to be given
	pass int64  // bytes of a message that is not packed, to be passed on
}

func (m *messages) Read(p []byte) (int, error) {
	for len(m.out) == 0 && m.pass == 0 {
		if err := m.next(); err != nil {
			return 0, err
		}
	}
	if len(m.out) > 0 {
		n := copy(p, m.out)
		m.out = m.out[n:]
		return n, nil
	}
	n, err := m.in.Read(p[:min(int64(len(p)), m.pass)])
	m.pass -= int64(n)
	return n, err
}

// next reads the head of a message, and the message if it is packed.
func (m *messages) next() error {
	head := make([]byte, frameHead)
	if n, err := io.ReadFull(m.in, head); err != nil {
		if err == io.ErrUnexpectedEOF { // what there is of it is not for us to judge
			m.out = head[:n]
			return nil
		}
		return err
	}
	size := int64(binary.BigEndian.Uint32(head[1:]))
	if head[0]&frameCompressed == 0 || size == 0 {
		head[0] &^= frameCompressed
		m.out, m.pass = head, size
		return nil
	}
	text, err := m.unpack(size)
	if err != nil {
		return err
	}
	head[0] &^= frameCompressed
	binary.BigEndian.PutUint32(head[1:], uint32(len(text)))
	m.out = append(head, text...)
	return nil
}

func (m *messages) unpack(size int64) ([]byte, error) {
	if size > maxMessage {
		return nil, ErrMessage
	}
	packed, err := io.ReadAll(io.LimitReader(m.in, size))
	if err != nil {
		return nil, err
	}
	if int64(len(packed)) < size {
		return nil, io.ErrUnexpectedEOF
	}
	r, err := m.open(bufio.NewReader(bytes.NewReader(packed)))
	if err != nil {
		return nil, fmt.Errorf("unpack a message of the upstream's: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(r, maxMessage+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("unpack a message of the upstream's: %w", err)
	case len(text) > maxMessage:
		return nil, ErrMessage
	}
	return text, nil
}
