package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Files of the data directory.
const (
	lockFile       = "lock"
	kekFile        = "kek"
	adminTokenFile = "admin-token"
	caFile         = "ca.pem"
)

// dataDir is a data directory that no other process uses.
type dataDir struct {
	path string
	lock *os.File
}

func openDataDir(path string) (*dataDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, withHint(fmt.Errorf("data directory: %w", err), "choose another with --data-dir")
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, withHint(fmt.Errorf("data directory: %w", err), "choose another with --data-dir")
	}
	// The kernel drops the lock with the process, however that ends.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, withHint(fmt.Errorf("the data directory %s is in use by another sallyport-control", path), "stop that one, or choose another with --data-dir")
		}
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	return &dataDir{path: path, lock: lock}, nil
}

// checkMode reports whom the directory is open to, if to others than its owner.
func (d *dataDir) checkMode() error {
	info, err := os.Stat(d.path)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o: chmod 700 %s", d.path, mode, d.path)
	}
	return nil
}

func (d *dataDir) close() { d.lock.Close() }

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// write replaces a file as a whole, readable by its owner only: after a crash it
// is the old one or the new one.
func (d *dataDir) write(name string, content []byte) error {
	if err := d.replace(name, content); err != nil {
		return fmt.Errorf("write %s: %w", d.file(name), err)
	}
	return nil
}

func (d *dataDir) replace(name string, content []byte) error {
	f, err := os.CreateTemp(d.path, "."+name+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails when it was renamed
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), d.file(name)); err != nil {
		return err
	}
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
