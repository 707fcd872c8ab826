package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"sallyport/control"
)

// memory is a Meta.
type memory struct {
	mu     sync.Mutex
	values map[string][]byte
}

func (m *memory) GetMeta(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, found := m.values[key]; found {
		return v, nil
	}
	return nil, control.Errorf(control.CodeNotFound, "there is no value %q", key)
}

func (m *memory) SetMetaIfAbsent(ctx context.Context, key string, value []byte) ([]byte, error) {
	m.mu.Lock()
	if _, found := m.values[key]; !found {
		m.values[key] = value
	}
	m.mu.Unlock()
	return m.GetMeta(ctx, key)
}

func newMemory() *memory { return &memory{values: make(map[string][]byte)} }

func TestFirstStartMakesTheKey(t *testing.T) {
	dir, meta := t.TempDir(), newMemory()
	path := filepath.Join(dir, "kek")
	first, err := OpenFileKEK(t.Context(), path, meta)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 || info.Size() != keySize {
		t.Errorf("the file has mode %v and %d bytes", info.Mode(), info.Size())
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, %v", entries, err)
	}
	second, err := OpenFileKEK(t.Context(), path, meta)
	if err != nil {
		t.Fatal(err)
	}
	if first.ID() != second.ID() {
		t.Errorf("ids %s and %s", first.ID(), second.ID())
	}
}

func TestFirstStartsAtOnceAgree(t *testing.T) {
	path, meta := filepath.Join(t.TempDir(), "kek"), newMemory()
	ids := make([]string, 16)
	var group sync.WaitGroup
	for i := range ids {
		group.Go(func() {
			kek, err := OpenFileKEK(t.Context(), path, meta)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = kek.ID()
		})
	}
	group.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("ids %v", ids)
		}
	}
}

func TestLostKeyIsNotMadeAnew(t *testing.T) {
	path, meta := filepath.Join(t.TempDir(), "kek"), newMemory()
	kek, err := OpenFileKEK(t.Context(), path, meta)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, err = OpenFileKEK(t.Context(), path, meta)
	if err == nil || !strings.Contains(err.Error(), path+" is missing") || !strings.Contains(err.Error(), kek.ID()) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a new key was made: %v", err)
	}
}

func TestWrongKeyIsRefused(t *testing.T) {
	dir, meta := t.TempDir(), newMemory()
	right, err := OpenFileKEK(t.Context(), filepath.Join(dir, "right"), meta)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := OpenFileKEK(t.Context(), filepath.Join(dir, "wrong"), newMemory())
	if err != nil {
		t.Fatal(err)
	}
	_, err = OpenFileKEK(t.Context(), filepath.Join(dir, "wrong"), meta)
	want := fmt.Sprintf("the key-encryption key at %s is not the one this database was sealed with (id %s, want %s)", filepath.Join(dir, "wrong"), wrong.ID(), right.ID())
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestForgedSentinel has the right id over bytes that the key did not wrap.
func TestForgedSentinel(t *testing.T) {
	path, meta := filepath.Join(t.TempDir(), "kek"), newMemory()
	kek, err := OpenFileKEK(t.Context(), path, meta)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"", kek.ID(), kek.ID() + "\x00", kek.ID() + "\x00" + strings.Repeat("x", 112)} {
		meta.values[sentinelKey] = []byte(value)
		if _, err := OpenFileKEK(t.Context(), path, meta); err == nil {
			t.Errorf("started with the sentinel %q", value)
		}
	}
}

func TestUnfitFiles(t *testing.T) {
	for name, test := range map[string]struct {
		size int
		mode fs.FileMode
		want string
	}{
		"readable by the group": {keySize, 0o640, "open to others (mode 0640): chmod 600"},
		"readable by all":       {keySize, 0o604, "open to others (mode 0604): chmod 600"},
		"empty":                 {0, 0o600, "has 0 bytes and not 32"},
		"cut":                   {keySize - 1, 0o600, "has 31 bytes and not 32"},
		"too long":              {keySize + 1, 0o600, "has 33 bytes and not 32"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kek")
			if err := os.WriteFile(path, make([]byte, test.size), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, test.mode); err != nil {
				t.Fatal(err)
			}
			meta := newMemory()
			_, err := OpenFileKEK(t.Context(), path, meta)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
			if len(meta.values) != 0 {
				t.Error("the database was claimed all the same")
			}
		})
	}
	if _, err := OpenFileKEK(t.Context(), t.TempDir(), newMemory()); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("a directory: %v", err)
	}
	fifo := filepath.Join(t.TempDir(), "kek")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFileKEK(t.Context(), fifo, newMemory()); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("a FIFO: %v", err)
	}
}

func TestKeyIsNotPrinted(t *testing.T) {
	kek, err := newFileKEK(bytes.Repeat([]byte("k"), keySize))
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if got := fmt.Sprintf(format, kek); got != kek.ID() {
			t.Errorf("%s prints %s", format, got)
		}
	}
}
