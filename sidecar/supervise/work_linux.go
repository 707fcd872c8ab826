package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// workerSettings is what init tells a worker.
type workerSettings struct {
	Files    int
	Memory   int
	Record   bool
	Settings any
}

// Worker is what a worker was given.
type Worker struct {
	Settings json.RawMessage // Config.Settings
	Token    Token           // empty in every worker but the first
	State    *State
	Memory   []byte     // Config.Memory
	Record   *os.File   // Config.Record
	Files    []*os.File // Config.Files

	ready *os.File
	life  *os.File // nothing ever comes; init's death ends it
}

// Work runs serve as a worker: with what init handed over, without any right
// that serving does not need, and until init says to drain or is gone, which
// ends ctx. It must be called before anything hostile is read.
func Work(ctx context.Context, serve func(context.Context, *Worker) error) error {
	surviveBrokenPipes()
	if err := closeOnExec(); err != nil {
		return err
	}
	if err := confine(certificates()); err != nil {
		return err
	}
	w, err := inherit()
	if err != nil {
		return err
	}
	defer w.Token.Wipe()
	defer w.ready.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // as long as the process
		_, _ = w.life.Read(make([]byte, 1))
		cancel()
	}()
	return serve(ctx, w)
}

// certificates are the files and directories where the operator keeps the roots.
func certificates() []string {
	var paths []string
	for _, pair := range workerEnviron(os.Environ()) {
		_, value, _ := strings.Cut(pair, "=")
		paths = append(paths, filepath.SplitList(value)...)
	}
	return paths
}

func inherit() (*Worker, error) {
	var settings struct {
		Files    int
		Memory   int
		Record   bool
		Settings json.RawMessage
	}
	if err := receive(&settings); err != nil {
		return nil, err
	}
	pipe := os.NewFile(tokenFD, "join token")
	token, err := io.ReadAll(io.LimitReader(pipe, maxToken))
	pipe.Close()
	if err != nil {
		return nil, fmt.Errorf("read the join token: %w", err)
	}
	memory := os.NewFile(stateFD, "state")
	state, err := openState(memory)
	memory.Close()
	if err != nil {
		return nil, err
	}
	w := &Worker{Settings: settings.Settings, Token: token, State: state,
		ready: os.NewFile(readyFD, "ready"), life: os.NewFile(lifeFD, "life")}
	if settings.Memory > 0 {
		f := os.NewFile(memoryFD, "memory")
		w.Memory, err = mapped(f, settings.Memory)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	if settings.Record {
		w.Record = os.NewFile(recordFD, "record")
	}
	for i := range settings.Files {
		w.Files = append(w.Files, os.NewFile(uintptr(firstFD+i), fmt.Sprintf("file %d", i)))
	}
	return w, nil
}

// Ready tells init that the worker serves, with the sandbox's public CA in PEM.
// It is called once.
func (w *Worker) Ready(ca []byte) error {
	if err := checkCA(ca); err != nil {
		return err
	}
	if len(ca) > maxCA {
		return errors.New("the CA is too large")
	}
	if _, err := w.ready.Write(ca); err != nil {
		return fmt.Errorf("tell init that the worker serves: %w", err)
	}
	return w.ready.Close()
}
