package inject

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// A body in chunks, each with a signature over itself and the signature before it.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html

const (
	// mostChunk is the longest chunk in bytes: its signature stands before it, so
	// that each is held.
	mostChunk = 1 << 20
	// mostChunkLine is the longest line in bytes beside the chunks' own bytes.
	mostChunkLine = 1 << 10
	mostTrailers  = 16

	chunkExtension   = ";chunk-signature="
	trailerSignature = "x-amz-trailer-signature"
)

// chunkSigner signs what follows a request's signature.
type chunkSigner struct {
	key       []byte
	at, place string
	previous  string
}

func (s *chunkSigner) chunk(data []byte) string {
	sum := sha256.Sum256(data)
	return s.sign("AWS4-HMAC-SHA256-PAYLOAD", v4EmptySHA256+"\n"+hex.EncodeToString(sum[:]))
}

func (s *chunkSigner) trailer(canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	return s.sign("AWS4-HMAC-SHA256-TRAILER", hex.EncodeToString(sum[:]))
}

func (s *chunkSigner) sign(algorithm, text string) string {
	s.previous = v4Sign(s.key, algorithm+"\n"+s.at+"\n"+s.place+"\n"+s.previous+"\n"+text)
	return s.previous
}

// rechunker passes on a client's chunks with signatures of ours in the place of its
// own. The length stays what it was.
type rechunker struct {
	body    io.ReadCloser
	in      *bufio.Reader
	signer  *chunkSigner
	trailer bool
	loan    *loan
	buffer  []byte // a chunk with its line
	out     []byte // what of buffer is not yet read
	last    bool
	err     error
}

func newRechunker(body io.ReadCloser, signer *chunkSigner, trailer bool, l *loan) *rechunker {
	return &rechunker{body: body, in: bufio.NewReaderSize(body, mostChunkLine), signer: signer, trailer: trailer, loan: l}
}

func (c *rechunker) Close() error { return c.body.Close() }

func (c *rechunker) Read(p []byte) (int, error) {
	for len(c.out) == 0 && c.err == nil {
		if c.last {
			c.err = io.EOF
			break
		}
		c.err = c.next()
	}
	n := copy(p, c.out)
	c.out = c.out[n:]
	if n > 0 {
		return n, nil
	}
	return 0, c.err
}

// next signs the next chunk, or all that follows the last one, which goes with it.
func (c *rechunker) next() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	size, signature, found := strings.Cut(line, chunkExtension)
	if !found || len(signature) != hex.EncodedLen(sha256.Size) || len(size) > 8 || strings.ContainsAny(size, "+-_") {
		return malformed("a line is not SIZE;chunk-signature=SIGNATURE")
	}
	n, err := strconv.ParseUint(size, 16, 32)
	if err != nil {
		return malformed("a chunk's size is no hexadecimal number")
	}
	if n > mostChunk {
		return unsigned(http.StatusRequestEntityTooLarge, "body_too_long_to_sign", "a chunk of a signed body has more than %d MiB; let the client send smaller ones", mostChunk>>20)
	}
	if err := c.read(int(n), len(size)); err != nil {
		return err
	}
	head := len(size) + len(chunkExtension) + hex.EncodedLen(sha256.Size) + 2
	copy(c.buffer, size+chunkExtension+c.signer.chunk(c.buffer[head:head+int(n)])+"\r\n")
	c.out = c.buffer
	if n > 0 {
		return c.end()
	}
	c.last = true
	if c.trailer {
		if err := c.trailers(); err != nil {
			return err
		}
	} else if err := c.end(); err != nil {
		return err
	}
	if _, err := c.in.ReadByte(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = malformed("something follows the last chunk")
		}
		return c.fail(err)
	}
	return nil
}

// read puts a chunk's n bytes behind the room for its line.
func (c *rechunker) read(n, size int) error {
	head := size + len(chunkExtension) + hex.EncodedLen(sha256.Size) + 2
	if grow := head + n + 2 - cap(c.buffer); grow > 0 {
		if err := c.loan.take(int64(grow)); err != nil {
			return err
		}
		c.buffer = make([]byte, 0, head+n+2)
	}
	c.buffer = c.buffer[:head+n]
	if _, err := io.ReadFull(c.in, c.buffer[head:]); err != nil {
		return c.fail(err)
	}
	return nil
}

// end reads the line's end after a chunk.
func (c *rechunker) end() error {
	line, err := c.line()
	if err != nil {
		return c.fail(err)
	}
	if line != "" {
		return c.fail(malformed("a chunk is longer than it says"))
	}
	c.out = append(c.buffer, '\r', '\n')
	return nil
}

// trailers sign the fields after the last chunk.
func (c *rechunker) trailers() error {
	var canonical, text strings.Builder
	for n := 0; ; n++ {
		line, err := c.line()
		if err != nil {
			return c.fail(err)
		}
		name, value, found := strings.Cut(line, ":")
		if !found || n > mostTrailers {
			return c.fail(malformed("the trailers are not fields that end with " + trailerSignature))
		}
		name = strings.ToLower(strings.TrimSpace(name))
		if name == trailerSignature {
			if len(strings.TrimSpace(value)) != hex.EncodedLen(sha256.Size) {
				return c.fail(malformed("the signature of the trailers has another length"))
			}
			before, _, _ := strings.Cut(line, strings.TrimSpace(value))
			text.WriteString(before + c.signer.trailer(canonical.String()) + "\r\n")
			break
		}
		canonical.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
		text.WriteString(line + "\r\n")
	}
	if line, err := c.line(); err != nil || line != "" {
		return c.fail(cmp.Or(err, malformed("something follows the trailers' signature")))
	}
	c.out = append(append(c.buffer, text.String()...), '\r', '\n')
	return nil
}

// fail leaves nothing to be sent: an end that is not right is not begun.
func (c *rechunker) fail(err error) error {
	c.out = nil
	return cut(err)
}

func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed("it ends before its last chunk")
	}
	return err
}

// line reads one up to CRLF, which it leaves away.
func (c *rechunker) line() (string, error) {
	line, err := c.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", malformed("a line is too long")
	case err != nil:
		return "", cut(err)
	}
	text, found := strings.CutSuffix(string(line), "\r\n")
	if !found || strings.ContainsAny(text, "\r\x00") {
		return "", malformed("a line does not end with CR and LF")
	}
	return text, nil
}

func malformed(why string) error {
	return unsigned(http.StatusBadRequest, "malformed_chunks", "the body is not in signed chunks as x-amz-content-sha256 announces: %s; it was not sent to its end", why)
}
