package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"unicode/utf8"

	"golang.org/x/term"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
)

// readSecret reads a credential's secret from the file named by --secret-file,
// - being standard input. The name is not repeated in errors: it would be the
// secret itself when somebody pasted it there.
func (c *cli) readSecret(name string, auth control.Auth) (client.Outgoing, error) {
	secret, err := c.readPrivate("--secret-file", name)
	if err != nil {
		return client.Outgoing{}, err
	}
	check := control.CheckSecret
	if auth != "" && !auth.Sent() && (auth != authOfStored || structured(secret)) {
		check = control.CheckLength // the control plane knows how it looks
	}
	if err := check(secret); err != nil {
		return client.Outgoing{}, withHint(fmt.Errorf("--secret-file: %w", err), "one newline at the end is dropped, nothing else; printf %s writes none")
	}
	if !utf8.Valid(secret) {
		return client.Outgoing{}, errors.New("--secret-file: the secret is not UTF-8 text")
	}
	return client.Outgoing{Secret: secret}, nil
}

// authOfStored is the auth of a credential that only the control plane knows.
const authOfStored control.Auth = "stored"

// structured reports whether a secret can't be one that requests carry as it is:
// a JSON object or a PEM file, which may have line breaks.
func structured(secret control.Secret) bool {
	return bytes.HasPrefix(secret, []byte("{")) || bytes.HasPrefix(secret, []byte("-----BEGIN "))
}

// warnOf shows the warning of an answer, if it has one.
func (c *cli) warnOf(warning string) {
	if warning != "" {
		c.warn("%s", warning)
	}
}

// readToken reads an API token like a secret.
func (c *cli) readToken(name string) (control.Secret, error) {
	token, err := c.readPrivate("--token-file", name)
	if err != nil {
		return nil, err
	}
	token = bytes.TrimSpace(token)
	if len(token) == 0 {
		return nil, errors.New("--token-file: the file is empty")
	}
	return token, nil
}

// readPrivate reads what flag names, without its last newline, for as long as
// the user wants to wait for it.
func (c *cli) readPrivate(flag, name string) (control.Secret, error) {
	if name == "-" {
		return c.readStdin(flag)
	}
	return c.interruptible(func() (control.Secret, error) { return c.readPrivateFile(flag, name) })
}

const statusInterrupted = 130 // as a shell gives for SIGINT

// interruptible waits for read, which may itself wait for a person or another
// program without end. What it leaves behind ends with the program.
func (c *cli) interruptible(read func() (control.Secret, error)) (control.Secret, error) {
	type result struct {
		text control.Secret
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := read()
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-c.interrupted:
		return nil, exitStatus(statusInterrupted)
	}
}

func (c *cli) readPrivateFile(flag, name string) (control.Secret, error) {
	f, err := os.Open(name)
	if err != nil {
		var cause *fs.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return nil, withHint(fmt.Errorf("%s: can't open the file it names: %w", flag, err), flag+" takes a file's name, or - for standard input, never the secret itself")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		c.warn("the file of %s is open to others (mode %04o); chmod 600 it", flag, info.Mode().Perm())
	}
	return readLine(flag, f)
}

func (c *cli) readStdin(flag string) (control.Secret, error) {
	f, ok := c.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return c.interruptible(func() (control.Secret, error) { return readLine(flag, c.stdin) })
	}
	fd := int(f.Fd())
	shown, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("%s: read from the terminal: %w", flag, err)
	}
	fmt.Fprintf(c.stderr, "%s (not shown): ", flag)
	typed, err := c.interruptible(func() (control.Secret, error) {
		typed, err := term.ReadPassword(fd)
		if err != nil {
			return nil, fmt.Errorf("%s: read from the terminal: %w", flag, err)
		}
		return typed, nil
	})
	fmt.Fprintln(c.stderr)
	if restored := term.Restore(fd, shown); restored != nil && err == nil {
		err = fmt.Errorf("%s: show again what is typed: %w", flag, restored)
	}
	return typed, err
}

// readLine reads all of r and drops exactly one newline, \n or \r\n, from its end.
func readLine(flag string, r io.Reader) (control.Secret, error) {
	text, err := io.ReadAll(io.LimitReader(r, control.MaxSecretLength+3))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	text, found := bytes.CutSuffix(text, []byte("\n"))
	if found {
		text = bytes.TrimSuffix(text, []byte("\r"))
	}
	return text, nil
}
