package supervise

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// owner is a thread of a user of the agent's own range, which makes the agent's user
// namespace. The kernel counts what is in a namespace (inotify instances, bytes of
// message queues, signals that wait, namespaces) for who made it as well, against what
// that user may have: were it root, one agent could use up what all of root's programs
// and sandboxes have. Who made a namespace may also signal what is in it, without any
// capability. The thread's real and saved user stay root's, so that the agent may do
// nothing to it.
type owner struct{ calls chan func() }

// secbitNoSetuidFixup is SECBIT_NO_SETUID_FIXUP of linux/securebits.h: capabilities
// stay as they are when a user id changes.
const secbitNoSetuidFixup = 1 << 2

// newOwner makes a thread that is there as long as the process is.
func newOwner(id int64) (*owner, error) {
	o := &owner{calls: make(chan func())}
	made := make(chan error)
	go o.serve(id, made)
	if err := <-made; err != nil {
		return nil, err
	}
	// A change of user has undone it.
	return o, keepPrivate()
}

func (o *owner) serve(id int64, made chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The first thread is signalled when the parent dies, unless its user changes.
		again := make(chan error)
		go o.serve(id, again) // cannot get this thread, which is held meanwhile
		made <- <-again
		runtime.UnlockOSThread()
		return
	}
	err := become(id)
	made <- err
	if err != nil {
		return // and the thread with it
	}
	for call := range o.calls {
		call()
	}
}

// become changes the effective user of this thread alone.
func become(id int64) error {
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, secbitNoSetuidFixup, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities for the agent's user namespace: %w", err)
	}
	same := ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(id), same); errno != 0 {
		return fmt.Errorf("become the owner of the agent's user namespace: %w", errno)
	}
	// Files are still root's: the namespace's ids are written to one.
	_, err := unix.SetfsuidRetUid(0)
	return err
}

// do calls f on the owner's thread; on any where there is no owner.
func (o *owner) do(f func() error) (err error) {
	if o == nil {
		return f()
	}
	done := make(chan struct{})
	o.calls <- func() {
		defer close(done)
		err = f()
	}
	<-done
	return err
}
