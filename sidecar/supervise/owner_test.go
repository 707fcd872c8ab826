package supervise

import (
	"fmt"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fillQueues opens message queues until their user may have no more.
func fillQueues() (open []int) {
	for {
		name := unsafe.Pointer(must(unix.BytePtrFromString(fmt.Sprintf("sallyport-%d", len(open)))))
		fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(name), unix.O_CREAT|unix.O_RDWR, 0o600, 0, 0, 0)
		if errno != 0 {
			return open
		}
		// It goes with its last descriptor.
		unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(name), 0, 0)
		open = append(open, int(fd))
	}
}

// TestAgentUsesUpItsOwnUser: what the kernel lets a user have of something is the
// sandbox's own, not that of root and all of root's sandboxes.
func TestAgentUsesUpItsOwnUser(t *testing.T) {
	first := start(t, part{Command: []string{"probe", "queues"}})
	first.stdout.await(t, "queues:")
	second := start(t, part{Command: []string{"probe", "queues"}})
	second.stdout.await(t, "queues:")
	for _, s := range []*sandbox{first, second} {
		var n int
		if _, err := fmt.Sscanf(s.stdout.String(), "queues: %d", &n); err != nil || n == 0 {
			t.Errorf("an agent has %q, want queues of its own", s.stdout.String())
		}
	}
	mine := fillQueues()
	if len(mine) == 0 {
		t.Error("agents have used up what root may have")
	}
	for _, fd := range mine {
		unix.Close(fd)
	}
}
