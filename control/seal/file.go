package seal

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// FileKEK is a key-encryption key in a file of 32 bytes that only its owner reads.
type FileKEK struct {
	key []byte
	id  string
}

func newFileKEK(key []byte) (*FileKEK, error) {
	id, err := hkdf.Key(sha256.New, key, nil, "sallyport key-encryption key id", 8)
	if err != nil {
		return nil, fmt.Errorf("name the key-encryption key: %w", err)
	}
	return &FileKEK{key: key, id: "file:" + hex.EncodeToString(id)}, nil
}

// ID names the key without telling anything of it.
func (k *FileKEK) ID() string { return k.id }

// Format keeps every verb of fmt from reaching the key.
func (k *FileKEK) Format(f fmt.State, _ rune) { io.WriteString(f, k.id) }

// Wrap implements KEK.
func (k *FileKEK) Wrap(_ context.Context, key, aad []byte) (blob []byte, id string, err error) {
	b, err := seal(k.key, aad, key)
	if err != nil {
		return nil, "", err
	}
	return append(append(b.salt, b.commitment...), b.ciphertext...), k.id, nil
}

// Unwrap implements KEK.
func (k *FileKEK) Unwrap(_ context.Context, id string, blob, aad []byte) (key []byte, err error) {
	if id != k.id {
		return nil, fmt.Errorf("it was wrapped by the key-encryption key with id %s, and this one has id %s", id, k.id)
	}
	if len(blob) < saltSize+commitmentSize {
		return nil, ErrClosed
	}
	return open(k.key, aad, box{blob[:saltSize], blob[saltSize : saltSize+commitmentSize], blob[saltSize+commitmentSize:]})
}

// readKEK reads the key at path; fs.ErrNotExist is in the error's chain if there is none.
func readKEK(path string) (*FileKEK, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would make it wait for ever
	if err != nil {
		return nil, fmt.Errorf("open the key-encryption key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at the key-encryption key: %w", err)
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("the key-encryption key %s is not a file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("the key-encryption key %s is open to others (mode %04o): chmod 600 %s, and think about who may have read it", path, info.Mode().Perm(), path)
	case info.Size() != keySize:
		return nil, fmt.Errorf("the key-encryption key %s has %d bytes and not %d: it is damaged, or another file; restore it from your backup", path, info.Size(), keySize)
	}
	key := make([]byte, keySize)
	if _, err := io.ReadFull(f, key); err != nil {
		return nil, fmt.Errorf("read the key-encryption key: %w", err)
	}
	return newFileKEK(key)
}

// createKEK makes the key at path, whole and on disk or not at all; fs.ErrExist
// is in the error's chain if there is a file already.
func createKEK(path string) (_ *FileKEK, err error) {
	key := make([]byte, keySize)
	rand.Read(key) // never fails, since Go 1.24
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".kek-*") // O_EXCL, mode 0600
	if err != nil {
		return nil, fmt.Errorf("make the key-encryption key: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(key)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("write the key-encryption key: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil { // unlike a rename, never over another's key
		return nil, fmt.Errorf("put the key-encryption key in place: %w", err)
	}
	if err := syncDir(dir); err != nil {
		return nil, err
	}
	return newFileKEK(key)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// OpenFileKEK is OpenFile for a database that was sealed with that key, and no other.
func OpenFileKEK(ctx context.Context, path string, meta Meta) (*FileKEK, error) {
	kek, err := OpenFile(ctx, path, meta)
	if err != nil {
		return nil, err
	}
	if err := CheckSentinel(ctx, meta, kek, path); err != nil {
		return nil, err
	}
	return kek, nil
}

// OpenFile reads the key at path. Only for a database that was never sealed does
// it make the file, if there is none.
func OpenFile(ctx context.Context, path string, meta Meta) (*FileKEK, error) {
	kek, err := readKEK(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return kek, err
	}
	sealedWith, err := sealedWith(ctx, meta)
	if err != nil {
		return nil, err
	}
	if sealedWith != "" {
		if kek, err := readKEK(path); err == nil {
			return kek, nil // another process has made it, and sealed the database, since we looked
		}
		return nil, fmt.Errorf("the key-encryption key %s is missing, and this database was sealed with one (id %s): restore it from your backup, or give its place with --kek; nothing opens without it", path, sealedWith)
	}
	if kek, err = createKEK(path); errors.Is(err, fs.ErrExist) {
		return readKEK(path) // another process was first
	}
	return kek, err
}
