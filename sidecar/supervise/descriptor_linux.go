package supervise

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A process finds what it was given at these descriptors.
const (
	settingsFD = 3  // of worker and stage: JSON
	consoleFD  = 4  // of stage: takes the other side of the sandbox's terminal
	tokenFD    = 4  // of the worker: the join token, to its end
	stateFD    = 5  // of the worker: its State
	readyFD    = 6  // of the worker: takes the CA in PEM, then is closed
	lifeFD     = 7  // of the worker: ends when the worker should
	memoryFD   = 8  // of the worker: Config.Memory bytes
	recordFD   = 9  // of the worker: Config.Record
	firstFD    = 10 // of the worker: Config.Files
)

// hand writes v where another process can read it from the start: memory, so
// that neither size nor timing matter.
func hand(v any) (*os.File, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("hand over settings: %w", err)
	}
	fd, err := unix.MemfdCreate("settings", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("hand over settings: %w", err)
	}
	f := os.NewFile(uintptr(fd), "settings")
	if _, err := f.WriteAt(b, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("hand over settings: %w", err)
	}
	return f, nil
}

// receive is the other end of hand.
func receive(v any) error {
	f := os.NewFile(settingsFD, "settings")
	defer f.Close()
	b, err := io.ReadAll(f)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("read what init handed over (this command is for sallyport-sidecar itself): %w", err)
	}
	return nil
}
