package supervise

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// State is memory that outlives a worker: init owns the descriptor, the worker
// maps it. It holds two copies, of which Save writes the older one, so a worker
// that is killed in the middle leaves the other whole.
type State struct {
	mu  sync.Mutex
	mem []byte
}

const (
	slotSize   = 64 << 10
	stateSize  = 2 * slotSize
	slotHeader = sha256.Size + 8 + 4 // sum, sequence, length
)

// newStateFile makes the memory. Where the kernel offers it, that is
// memfd_secret: even a reader of /proc/PID/mem with every capability gets nothing.
func newStateFile() (*os.File, error) {
	if f, err := newSecretMemory(); err == nil {
		return f, nil
	}
	return newMemory("sallyport-state", stateSize)
}

// newMemory makes memory of a size that can't be changed.
func newMemory(name string, size int) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, fmt.Errorf("make the worker's memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Truncate(int64(size)); err != nil {
		f.Close()
		return nil, fmt.Errorf("size the worker's memory: %w", err)
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal the worker's memory: %w", err)
	}
	return f, nil
}

// newSecretMemory fails where the worker could not map what it makes, which
// counts as locked memory.
func newSecretMemory() (*os.File, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil || limit.Cur < stateSize {
		return nil, errors.New("too little memory may be locked")
	}
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "state")
	if err := f.Truncate(stateSize); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func openState(f *os.File) (*State, error) {
	mem, err := mapped(f, stateSize)
	return &State{mem: mem}, err
}

// mapped is a file's memory.
func mapped(f *os.File, size int) ([]byte, error) {
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the worker's memory: %w", err)
	}
	return mem, nil
}

// Load gives a copy of what was saved last, nil if nothing was.
func (s *State) Load() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, latest := s.latest()
	return append([]byte(nil), latest...), nil
}

// Save replaces what Load gives, wholly or not at all.
func (s *State) Save(b []byte) error {
	if len(b) > slotSize-slotHeader {
		return fmt.Errorf("save the worker's state: %d bytes are more than the %d that fit", len(b), slotSize-slotHeader)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sequence, _ := s.latest()
	sequence++
	slot := s.slot(sequence)
	n := copy(slot[slotHeader:], b)
	clear(slot[slotHeader+n:])
	binary.BigEndian.PutUint64(slot[sha256.Size:], sequence)
	binary.BigEndian.PutUint32(slot[sha256.Size+8:], uint32(n))
	sum := sha256.Sum256(slot[sha256.Size : slotHeader+n])
	copy(slot, sum[:])
	return nil
}

func (s *State) slot(sequence uint64) []byte {
	start := int(sequence%2) * slotSize
	return s.mem[start : start+slotSize]
}

// latest gives the newest whole slot's sequence, from 1, and its content.
func (s *State) latest() (uint64, []byte) {
	var newest uint64
	var content []byte
	for i := range uint64(2) {
		slot := s.slot(i)
		sequence := binary.BigEndian.Uint64(slot[sha256.Size:])
		n := int(binary.BigEndian.Uint32(slot[sha256.Size+8:]))
		if sequence <= newest || n > slotSize-slotHeader {
			continue
		}
		if sha256.Sum256(slot[sha256.Size:slotHeader+n]) == [sha256.Size]byte(slot) {
			newest, content = sequence, slot[slotHeader:slotHeader+n]
		}
	}
	return newest, content
}
