package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Token is a one-time join token. It prints as [redacted].
type Token []byte

const redacted = "[redacted]"

func (t Token) String() string               { return redacted }
func (t Token) GoString() string             { return redacted }
func (t Token) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (t Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format keeps every verb of fmt from reaching the bytes.
func (t Token) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// Wipe overwrites the token.
func (t Token) Wipe() { clear(t) }

// maxToken bounds a join token, in bytes; a real one has about 100. It fits a
// pipe's buffer, so handing it over never blocks.
const maxToken = 1024

// ReadToken reads a join token and makes sure that nobody reads it again: a
// file is removed, and refused when it is a symbolic link or has a second name.
// /dev/fd/N and /proc/self/fd/N stand for an inherited descriptor, which is closed.
func ReadToken(path string) (Token, error) {
	if fd, ok := InheritedFD(path); ok {
		return readTokenFD(fd)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("join token file %s is a symbolic link: name the file itself", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the join token file: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("join token file %s is not a regular file; hand over a pipe as /dev/fd/N", path)
	}
	token, err := readToken(f)
	if removeErr := os.Remove(path); removeErr != nil {
		token.Wipe()
		return nil, fmt.Errorf("the agent could read the join token, since its file can't be removed (%w): put it in a writable directory or hand it over as /dev/fd/N", removeErr)
	}
	if err != nil {
		return nil, fmt.Errorf("join token file %s: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Nlink != 0 {
		token.Wipe()
		return nil, fmt.Errorf("join token file %s has another name (a hard link) where the agent could read it", path)
	}
	return token, nil
}

// InheritedFD reports the descriptor that a path such as /dev/fd/3 stands for.
func InheritedFD(path string) (int, bool) {
	dir, base := filepath.Split(filepath.Clean(path))
	if dir != "/dev/fd/" && dir != "/proc/self/fd/" {
		return 0, false
	}
	fd, err := strconv.Atoi(base)
	return fd, err == nil && fd >= 0
}

func readTokenFD(fd int) (Token, error) {
	f := os.NewFile(uintptr(fd), "join token")
	if f == nil {
		return nil, fmt.Errorf("join token: %d is not a descriptor", fd)
	}
	defer f.Close()
	var r io.Reader = f
	if _, err := f.Seek(0, io.SeekCurrent); err == nil {
		// A memfd comes with its offset wherever the writer left it.
		r = io.NewSectionReader(f, 0, maxToken+1)
	}
	token, err := readToken(r)
	if err != nil {
		return nil, fmt.Errorf("join token from descriptor %d: %w", fd, err)
	}
	return token, nil
}

func readToken(r io.Reader) (Token, error) {
	buf := make([]byte, maxToken+1)
	n, err := io.ReadFull(r, buf)
	switch {
	case err == nil:
		clear(buf)
		return nil, fmt.Errorf("longer than %d bytes: that is not a join token", maxToken)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		clear(buf)
		return nil, fmt.Errorf("read: %w", err)
	}
	token := bytes.Clone(bytes.TrimSpace(buf[:n]))
	clear(buf)
	if len(token) == 0 {
		return nil, errors.New("it is empty")
	}
	if bytes.ContainsAny(token, "\n\r\x00") {
		return nil, errors.New("it has more than one line: that is not a join token")
	}
	return token, nil
}
