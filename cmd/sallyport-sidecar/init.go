package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"sallyport/netsetup"
	"sallyport/sidecar"
	"sallyport/sidecar/identity"
	"sallyport/sidecar/supervise"
)

// sandboxFlags are common to every way of running a sandbox.
type sandboxFlags struct {
	Control       string   `required:"" placeholder:"URL" help:"The sidecar API of the control plane, such as https://control:8201; several replicas with commas."`
	JoinTokenFile string   `required:"" placeholder:"FILE" help:"The sandbox's join token. The file is removed; /dev/fd/N names an inherited descriptor."`
	UpstreamCA    []string `name:"upstream-ca" sep:"none" placeholder:"FILE" help:"PEM certificates to trust for upstreams, beside the system's. May be repeated."`
	ConnectTo     []string `sep:"none" placeholder:"HOST1:PORT1:HOST2:PORT2" help:"Connect to HOST2:PORT2 for HOST1:PORT1, as in curl; the address may be a private one. May be repeated."`
	MetricsListen string   `placeholder:"ADDRESS" help:"Serve Prometheus metrics here, outside the sandbox."`
	AuditDir      string   `placeholder:"DIR" help:"Where the uses of credentials are written before they happen, for teams whose audit is durable. The agent never sees it. Give a disk that outlives the sandbox (/var/lib/sallyport/audit, or ~/.local/state/sallyport/audit where that can't be)."`
	Hide          []string `sep:"none" placeholder:"PATH" help:"A file or directory that the agent must not see. May be repeated."`
	Share         []string `sep:"none" placeholder:"PATH" help:"A file or directory in /tmp, /var/tmp or /run that the agent needs: the sandbox has its own, and sees only the working directory of the machine's. May be repeated."`
	User          uint32   `default:"0" placeholder:"UID" help:"The agent's uid and gid inside its user namespace."`
}

type initCmd struct {
	sandboxFlags
	Netns   string   `placeholder:"PATH" help:"Seal this network namespace instead of a new one."`
	Command []string `arg:"" passthrough:"" name:"cmd" help:"The agent's command and its arguments, after --."`
}

func (cmd *initCmd) Run(ctx context.Context, env *environment) error {
	command, err := cmd.command()
	if err != nil {
		return err
	}
	signals, stop := listen()
	defer stop()
	if os.Geteuid() != 0 {
		return ended(supervise.Rootless(append([]string{name}, env.args...), cmd.JoinTokenFile, signals))
	}
	seal := func() (*netsetup.Namespace, error) { return netsetup.Seal(ctx, netsetup.Config{}) }
	if cmd.Netns != "" {
		seal = func() (*netsetup.Namespace, error) { return netsetup.SealPath(ctx, cmd.Netns, netsetup.Config{}) }
	}
	return cmd.run(ctx, env, seal, supervise.Config{PutBack: cmd.Netns != "", Command: command, Signals: signals})
}

func (cmd *initCmd) command() ([]string, error) {
	command := withoutDashes(cmd.Command)
	if len(command) == 0 {
		return nil, errors.New("init needs a command after --")
	}
	return command, nil
}

func withoutDashes(command []string) []string {
	if len(command) > 0 && command[0] == "--" {
		return command[1:]
	}
	return command
}

// run seals a namespace, sees that it is sealed, and supervises what config says.
func (f *sandboxFlags) run(ctx context.Context, env *environment, seal func() (*netsetup.Namespace, error), config supervise.Config) (err error) {
	if len(config.Command) > 0 && config.Command[0] == "" {
		return errors.New("the command after -- is an empty word; is a variable unset?")
	}
	settings, err := f.settings(env)
	if err != nil {
		return err
	}
	files, err := f.metricsListener()
	if err != nil {
		return err
	}
	defer closeAll(files)
	share, err := f.shared()
	if err != nil {
		return err
	}
	record, err := openAuditLog(f.AuditDir, env.getenv, env.log)
	if err != nil {
		return err
	}
	defer record.close()
	start := time.Now()
	namespace, err := seal()
	if err != nil {
		return fmt.Errorf("%w ('%s doctor' says what this machine lacks)", err, name)
	}
	defer func() { err = errors.Join(err, namespace.Close()) }()
	if err := namespace.Verify(ctx); err != nil {
		return err
	}
	if err := namespace.Probe(ctx); err != nil {
		return err
	}
	sockets, err := socketFiles(namespace)
	if err != nil {
		return err
	}
	defer closeAll(sockets)
	env.log.Debug("network sealed", "backend", namespace.Backend(), "duration", time.Since(start))

	dir, err := os.Getwd()
	if err != nil {
		dir = "/" // it was removed under us
	}
	config.Netns, config.Nameservers = namespace.File(), namespace.Nameservers()
	config.WorkerArgs, config.StageArgs = []string{name, workerName}, []string{name, "stage"}
	config.Files, config.Settings, config.TokenFile = append(sockets, files...), settings, f.JoinTokenFile
	proxy := fmt.Sprintf("http://127.0.0.1:%d", namespace.TCP().Addr().(*net.TCPAddr).Port)
	if err := os.Setenv(supervise.ProxyVariable, proxy); err != nil {
		return fmt.Errorf("tell the agent where its proxy is: %w", err)
	}
	config.Environ, config.Dir, config.User, config.Hide = os.Environ(), dir, f.User, f.Hide
	config.Memory, config.Record = sidecar.AuditJournalSize(), record.file
	if record.file != nil {
		config.RecordDir, config.Hide = record.dir, append(config.Hide, record.dir)
	}
	config.Share = share
	config.Log = env.log
	return ended(supervise.Run(ctx, config))
}

// settings reads what the worker can't read itself, and refuses what could
// never work before the join token is used up.
func (f *sandboxFlags) settings(env *environment) (*workerSettings, error) {
	if _, err := identity.ParseControl(f.Control); err != nil {
		return nil, fmt.Errorf("--control: %w", err)
	}
	s := &workerSettings{Control: f.Control, ConnectTo: f.ConnectTo, LogLevel: env.level}
	for _, file := range f.UpstreamCA {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--upstream-ca: %w", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--upstream-ca: %s has no certificate in PEM", file)
		}
		s.UpstreamCAs = append(s.UpstreamCAs, pem)
	}
	return s, nil
}

// shared gives the absolute paths of what is to be shared.
func (f *sandboxFlags) shared() ([]string, error) {
	var paths []string
	for _, name := range f.Share {
		path, err := filepath.Abs(name)
		if err == nil {
			_, err = os.Stat(path)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("--share: %w", err)
		case path == "/tmp" || path == "/var/tmp" || path == "/run":
			return nil, fmt.Errorf("--share %s: all of it would open its sockets to the agent; name what it needs in there", path)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// metricsListener is opened out here: the worker may not be in a position to.
func (f *sandboxFlags) metricsListener() ([]*os.File, error) {
	if f.MetricsListen == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", f.MetricsListen)
	if err != nil {
		return nil, fmt.Errorf("--metrics-listen: %w", err)
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return nil, fmt.Errorf("--metrics-listen: %w", err)
	}
	return []*os.File{file}, nil
}

// socketFiles are the descriptors of what was opened inside.
func socketFiles(n *netsetup.Namespace) ([]*os.File, error) {
	var files []*os.File
	for _, socket := range []interface{ File() (*os.File, error) }{n.TCP(), n.DNSPacket(), n.DNSStream()} {
		file, err := socket.File()
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("hand over the sandbox's sockets: %w", err)
		}
		files = append(files, file)
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
