package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Capabilities are what this machine allows to the calling process. Each is nil
// where it works, or what was said when it was tried.
type Capabilities struct {
	Privilege    error // the POSIX capabilities that init needs
	Sandbox      error // a sandbox with its namespaces and mounts, and a program run in it
	OwnIDs       error // ids of their own for agent and worker
	Landlock     error
	SecretMemory error // memory for the worker's state that not even root can read
}

// Detect finds out by trying. stageArgs is as in Config; the program must succeed
// when it is run with the argument "version".
func Detect(ctx context.Context, stageArgs []string) Capabilities {
	return Capabilities{
		Privilege:    checkPrivilege(),
		Sandbox:      trySandbox(ctx, stageArgs),
		OwnIDs:       checkIDs(),
		Landlock:     checkLandlock(),
		SecretMemory: trySecretMemory(),
	}
}

// required are the capabilities that init can't do without.
func required() []cap.Value {
	return []cap.Value{cap.SYS_ADMIN, cap.NET_ADMIN, cap.SETUID, cap.SETGID, cap.SETPCAP}
}

func checkPrivilege() error {
	have := cap.GetProc()
	var missing []string
	for _, value := range required() {
		if ok, err := have.GetFlag(cap.Effective, value); err != nil || !ok {
			missing = append(missing, strings.ToUpper(value.String()))
		}
	}
	if missing != nil {
		return fmt.Errorf("missing: %s", strings.Join(missing, ", "))
	}
	return nil
}

// trySandbox runs this program as an agent, in the network we are in.
func trySandbox(ctx context.Context, stageArgs []string) error {
	ids, err := chooseIDs(0)
	if err != nil {
		return err
	}
	settings, err := hand(stageSettings{
		Command: []string{self, "version"}, Dir: "/", UIDs: ids.agentUIDs, GIDs: ids.agentGIDs,
	})
	if err != nil {
		return err
	}
	defer settings.Close()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, self)
	cmd.Args, cmd.Env, cmd.Stderr = stageArgs, []string{}, &stderr
	cmd.ExtraFiles = []*os.File{settings}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: sandboxNamespaces, Setsid: true}
	if err := cmd.Run(); err != nil {
		return errors.Join(err, errors.New(strings.TrimSpace(stderr.String())))
	}
	return nil
}

func checkIDs() error {
	ids, err := chooseIDs(0)
	switch {
	case err != nil:
		return err
	case ids.agentUIDs.Count == 1 || ids.worker == 0:
		return errors.New("the agent, the worker and init share one uid; namespaces, Landlock and seccomp keep them apart")
	}
	return nil
}

func checkLandlock() error {
	const version = 1 // LANDLOCK_CREATE_RULESET_VERSION
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version); errno != 0 {
		return fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	return nil
}

func trySecretMemory() error {
	f, err := newSecretMemory()
	if err != nil {
		return fmt.Errorf("memfd_secret: %w (an ordinary memfd is used)", err)
	}
	return f.Close()
}
