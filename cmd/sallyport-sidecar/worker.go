package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"runtime/debug"

	"sallyport/sidecar"
	"sallyport/sidecar/supervise"
)

// workerSettings travel from init to the worker.
type workerSettings struct {
	Control     string
	UpstreamCAs [][]byte // PEM
	ConnectTo   []string
	LogLevel    slog.Level
}

type workerCmd struct{}

// workerMemory is how many bytes a worker has before its garbage is collected as
// soon as there is any. All the connections that there may be, idle, take less.
const workerMemory = 448 << 20

func (*workerCmd) Run(ctx context.Context, env *environment) error {
	// net/http says here, and nowhere else, what an upstream sends unasked: it
	// quotes it, and the credential with it if the upstream echoes that.
	log.SetOutput(io.Discard)
	stop, err := profile()
	if err != nil {
		return err
	}
	defer stop()
	debug.SetMemoryLimit(workerMemory)
	return supervise.Work(ctx, func(ctx context.Context, w *supervise.Worker) error {
		var s workerSettings
		if err := json.Unmarshal(w.Settings, &s); err != nil {
			return fmt.Errorf("read the worker's settings: %w", err)
		}
		config := sidecar.Config{
			Control:      s.Control,
			JoinToken:    w.Token,
			State:        w.State,
			UpstreamCAs:  s.UpstreamCAs,
			ConnectTo:    s.ConnectTo,
			AuditJournal: w.Memory,
			Version:      version(),
			Log:          slog.New(slog.NewTextHandler(env.logs, &slog.HandlerOptions{Level: s.LogLevel})),
			Ready:        w.Ready,
		}
		if w.Record != nil {
			config.AuditLog = auditFile{w.Record}
		}
		if err := listeners(w.Files, &config); err != nil {
			return err
		}
		return sidecar.Run(ctx, config)
	})
}

// listeners makes listeners of what init opened, in the order of sandboxFlags.files.
func listeners(files []*os.File, config *sidecar.Config) error {
	if len(files) < 3 {
		return fmt.Errorf("init handed over %d sockets, want at least 3", len(files))
	}
	tcp, err := net.FileListener(files[0])
	if err != nil {
		return fmt.Errorf("use the interception listener: %w", err)
	}
	config.TCP = tcp.(*net.TCPListener)
	if config.DNSPacket, err = net.FilePacketConn(files[1]); err != nil {
		return fmt.Errorf("use the DNS socket: %w", err)
	}
	if config.DNSStream, err = net.FileListener(files[2]); err != nil {
		return fmt.Errorf("use the DNS listener: %w", err)
	}
	if len(files) > 3 {
		if config.Metrics, err = net.FileListener(files[3]); err != nil {
			return fmt.Errorf("use the metrics listener: %w", err)
		}
	}
	for _, f := range files {
		f.Close() // the listeners have descriptors of their own
	}
	return nil
}

type stageCmd struct{}

func (*stageCmd) Run(ctx context.Context) error { return ended(supervise.Stage(ctx)) }
