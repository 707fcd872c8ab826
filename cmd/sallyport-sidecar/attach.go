package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sallyport/netsetup"
	"sallyport/sidecar/supervise"
)

type attachCmd struct {
	sandboxFlags
	Netns   string   `placeholder:"PATH" xor:"target" required:"" help:"The network namespace to seal, such as /run/netns/NAME."`
	PID     int      `name:"pid" placeholder:"N" xor:"target" required:"" help:"Seal the network namespace that this process is in."`
	CAOut   string   `name:"ca-out" placeholder:"FILE" help:"Write the sandbox's CA certificate here once it is served."`
	Command []string `arg:"" optional:"" passthrough:"" name:"cmd" help:"A command to run in it, after --. Without one, serve until a signal."`
}

func (cmd *attachCmd) Run(ctx context.Context, env *environment) error {
	if os.Geteuid() != 0 {
		return errors.New("attach needs root: the namespace belongs to somebody else's user namespace")
	}
	path := cmd.Netns
	if path == "" {
		path = fmt.Sprintf("/proc/%d/ns/net", cmd.PID)
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("there is no network namespace to attach to; is its process or container running? (%w)", err)
	}
	if cmd.CAOut != "" { // before the join token is used up
		dir, err := openDir(filepath.Dir(cmd.CAOut))
		if err != nil {
			return fmt.Errorf("--ca-out: %w", err)
		}
		dir.Close()
	}
	signals, stop := listen()
	defer stop()
	seal := func() (*netsetup.Namespace, error) { return netsetup.SealPath(ctx, path, netsetup.Config{}) }
	return cmd.run(ctx, env, seal, supervise.Config{
		PutBack: true,
		Command: withoutDashes(cmd.Command),
		Signals: signals,
		Ready: func(ca []byte) error {
			if cmd.CAOut != "" {
				if err := writeWhole(cmd.CAOut, ca); err != nil {
					return err
				}
			}
			env.log.Info("sandbox served", "netns", path)
			return nil
		},
	})
}

// writeWhole replaces a file at once, so that a reader never sees a part of it. No
// symbolic link is followed to its directory, in which a container may be at work: as
// root, we would write wherever on the machine it leads to.
func writeWhole(path string, content []byte) error {
	dir, err := openDir(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("--ca-out: %w", err)
	}
	defer dir.Close()
	at, name := int(dir.Fd()), filepath.Base(path)
	temporary := name + "." + rand.Text()
	fd, err := unix.Openat(at, temporary, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("--ca-out: make a file in %s: %w", dir.Name(), err)
	}
	f := os.NewFile(uintptr(fd), temporary)
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = unix.Renameat(at, temporary, at, name)
	}
	if err != nil {
		return fmt.Errorf("--ca-out: write %s: %w", path, errors.Join(err, unix.Unlinkat(at, temporary, 0)))
	}
	return nil
}

// openDir opens a directory that no symbolic link is on the way to.
func openDir(path string) (*os.File, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("there is a symbolic link on the way to the directory %s, which a container may have put there: name the directory itself, one that the container can't write to", path)
	case err != nil:
		return nil, fmt.Errorf("open the directory %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}
