package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/e2e/stage"
)

// agentRole is what runs in a sandbox: it prints the authorities that programs there
// believe and the address of the proxy there is for programs that want one, then dials
// what its standard input asks for and hands the connections out. So the attacks
// themselves, and what judges them, need not be in the sandbox.
func agentRole([]string) error {
	roots, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(inside{roots, os.Getenv("SALLYPORT_PROXY")}); err != nil {
		return err
	}
	stdin, err := net.FileConn(os.Stdin)
	if err != nil {
		return err
	}
	asked := stdin.(*net.UnixConn)
	for requests := json.NewDecoder(asked); ; {
		var address string
		if err := requests.Decode(&address); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := handOut(asked, address); err != nil {
			return err
		}
	}
}

// inside is what the agent sees of its sandbox.
type inside struct {
	Roots []byte
	Proxy string
}

// handOut answers with a byte for what went well, or the error, and the connection.
func handOut(to *net.UnixConn, address string) error {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		_, _, err = to.WriteMsgUnix([]byte(err.Error()), nil, nil)
		return err
	}
	defer conn.Close()
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	defer file.Close()
	_, _, err = to.WriteMsgUnix([]byte{dialled}, unix.UnixRights(int(file.Fd())), nil)
	return err
}

const dialled = '\n'

// agent is the other end of agentRole.
type agent struct {
	inside
	process *stage.Process

	mu  sync.Mutex
	ask *net.UnixConn
}

// startAgent runs an agent by a command that starts this program as one.
func startAgent(s *stage.Stage, command []string) (*agent, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "agent"), os.NewFile(uintptr(pair[1]), "stdin")
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = theirs
	a := &agent{ask: conn.(*net.UnixConn)}
	if a.process, err = s.Start(cmd); err != nil {
		return nil, err
	}
	if err := json.NewDecoder(a.process.Output).Decode(&a.inside); err != nil {
		a.stop()
		return nil, fmt.Errorf("the agent does not begin: %w\n%s", err, a.process.Log)
	}
	return a, nil
}

func (a *agent) stop() {
	a.ask.Close()
	a.process.Stop()
}

// dial gives a connection that was made in the sandbox.
func (a *agent) dial(_ context.Context, address string) (net.Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := json.NewEncoder(a.ask).Encode(address); err != nil {
		return nil, fmt.Errorf("the agent ended: %w\n%s", err, a.process.Log)
	}
	text, rights := make([]byte, 512), make([]byte, unix.CmsgSpace(4))
	n, size, _, _, err := a.ask.ReadMsgUnix(text, rights)
	if err != nil || n == 0 {
		return nil, fmt.Errorf("the agent ended: %w\n%s", err, a.process.Log)
	}
	if size == 0 {
		return nil, fmt.Errorf("dial %s in the sandbox: %s", address, text[:n])
	}
	messages, err := unix.ParseSocketControlMessage(rights[:size])
	if err != nil {
		return nil, err
	}
	descriptors, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(descriptors[0]), address)
	defer file.Close()
	return net.FileConn(file)
}
