//go:build !race

package supervise

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// QuietCrashes gives standard error by another descriptor, and leads the usual one
// nowhere. There the Go runtime tells of a crash: a panic's text, registers and
// arguments, which are memory. No GOTRACEBACK keeps it from that.
func QuietCrashes() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(unix.Stderr), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("keep standard error: %w", err)
	}
	// Standard input is /dev/null, for reading alone.
	if err := unix.Dup3(unix.Stdin, unix.Stderr, 0); err != nil {
		return nil, fmt.Errorf("keep crashes quiet: %w", err)
	}
	return os.NewFile(uintptr(fd), "standard error"), nil
}
