package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

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

// writeWhole replaces a file at once, so that a reader never sees a part of it.
func writeWhole(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("--ca-out: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("--ca-out: %w", err)
	}
	return nil
}
