// Package stage sets up the three programs for programs that are not tests: those
// that measure and those that attack.
package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Stage is a folder with a control plane, and what was started.
type Stage struct {
	Dir  string // that a sandbox keeps in sight when started by Launch
	Bin  string // folder of the three programs
	Self string // a copy of this program that every user may run
	API  string // URL of the sidecar API
	// Everywhere makes the sidecar API listen at every address, IPv6 too, when the
	// control plane is started.
	Everywhere bool

	ctx     context.Context
	listen  []string // addresses of the control plane: admin, sidecars, metrics
	control *Process
	admin   string // URL
	token   string // file
	stops   []func()
}

// New makes a folder, which name is part of. Close removes it.
func New(ctx context.Context, name, bin string) (*Stage, error) {
	dir, err := os.MkdirTemp("", "sallyport-"+name+"-")
	if err != nil {
		return nil, err
	}
	s := &Stage{Dir: dir, ctx: ctx, stops: []func(){func() { os.RemoveAll(dir) }}}
	if err := s.begin(name, bin); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stage) begin(name, bin string) (err error) {
	// Postgres and the agent run as other users, who must get to their files.
	if err := os.Chmod(s.Dir, 0o755); err != nil {
		return err
	}
	if s.Bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	s.Self = s.Path(name)
	return os.WriteFile(s.Self, program, 0o755)
}

// Close stops what was started, the last first.
func (s *Stage) Close() {
	for i := len(s.stops) - 1; i >= 0; i-- {
		s.stops[i]()
	}
}

// Path gives that of a file of the stage.
func (s *Stage) Path(name string) string { return filepath.Join(s.Dir, name) }

// StartControl starts the control plane on a core, -1 for any. After StopControl
// it is the same again.
func (s *Stage) StartControl(core int) error {
	for len(s.listen) < 3 {
		address, err := FreeAddress()
		if err != nil {
			return err
		}
		s.listen = append(s.listen, address)
	}
	s.admin, s.API, s.token = "http://"+s.listen[0], "https://"+s.listen[1], s.Path("data/admin-token")
	sidecars := s.listen[1]
	if s.Everywhere {
		_, port, _ := net.SplitHostPort(sidecars) // FreeAddress's
		sidecars = net.JoinHostPort("::", port)
	}
	control, err := s.Launch(core, filepath.Join(s.Bin, "sallyport-control"), "serve", "--data-dir", s.Path("data"),
		"--admin-listen", s.listen[0], "--sidecar-listen", sidecars, "--sidecar-url", s.API, "--metrics-listen", s.listen[2])
	if err != nil {
		return err
	}
	if s.control == nil {
		s.stops = append(s.stops, s.StopControl)
	}
	s.control = control
	return s.Await(control, func() error {
		response, err := http.Get(s.admin + "/readyz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("the control plane is not ready: %s", response.Status)
		}
		return nil
	})
}

// StopControl stops the control plane, if it runs.
func (s *Stage) StopControl() {
	if s.control != nil && s.control.ProcessState == nil {
		s.control.Stop()
	}
}

// ControlPid is the process id of the control plane.
func (s *Stage) ControlPid() int { return s.control.Process.Pid }

// Admin calls the admin API, with in as JSON if it is not nil, and reads the answer into out
// if that is not nil.
func (s *Stage) Admin(method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	token, err := os.ReadFile(s.token)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(s.ctx, method, s.admin+path, &body)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// CLI runs sallyport as the admin, and gives what it prints.
func (s *Stage) CLI(stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(s.ctx, filepath.Join(s.Bin, "sallyport"), append([]string{"--server", s.admin, "--token-file", s.token}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	output, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("sallyport %s: %w\n%s", strings.Join(args, " "), err, output)
	}
	return string(output), nil
}

// Sandboxed gives the command that runs another in a new sandbox of an agent. The
// flags are those of init.
func (s *Stage) Sandboxed(agent string, flags []string, command ...string) ([]string, error) {
	token, err := s.CLI("", "sandbox", "create", "--agent", agent)
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(s.Dir, "join-token-")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := file.WriteString(token); err != nil {
		return nil, err
	}
	line := []string{filepath.Join(s.Bin, "sallyport-sidecar"), "init", "--control", s.API, "--join-token-file", file.Name()}
	return append(append(append(line, flags...), "--"), command...), nil
}

// UseNames says which server WithNames asks.
func (s *Stage) UseNames(server string) error {
	return os.WriteFile(s.Path("resolv.conf"), []byte("nameserver "+server+"\n"), 0o644)
}

// WithNames makes a command ask the server of UseNames for names. It takes root.
func (s *Stage) WithNames(command []string) []string {
	return append([]string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, s.Path("resolv.conf")}, command...)
}

// Await waits until p is ready.
func (s *Stage) Await(p *Process, ready func() error) error {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := ready()
		if err == nil || s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: %w\n%s", strings.Join(p.Args, " "), err, p.Log)
		}
	}
}

// Reachable reports why an address can't be connected to.
func Reachable(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// FreeAddress gives one of loopback that nobody listened at a moment ago.
func FreeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
