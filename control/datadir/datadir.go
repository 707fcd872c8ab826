// Package datadir knows where the control planes of a user keep their keys and
// tokens, so that what runs beside one as the same user can be kept from them.
package datadir

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Default is where a control plane keeps its data unless it is told otherwise:
// /var/lib/sallyport for root, and a place of one's own else.
func Default(uid int, getenv func(string) string) string {
	if uid == 0 {
		return "/var/lib/sallyport"
	}
	return filepath.Join(base(getenv, "XDG_DATA_HOME", ".local", "share"), "sallyport")
}

// Usual are all the places that Default may give on this machine.
func Usual(getenv func(string) string) []string {
	withoutXDG := func(name string) string {
		if name == "HOME" {
			return getenv(name)
		}
		return ""
	}
	return []string{Default(0, getenv), Default(1, withoutXDG), Default(1, getenv)}
}

// Remember notes that a control plane of this user keeps its data at paths, and
// forgets those that are gone.
func Remember(getenv func(string) string, paths ...string) error {
	file := stateFile(getenv)
	if file == "" {
		return errors.New("note where the data is: neither XDG_STATE_HOME nor HOME is set")
	}
	known := slices.DeleteFunc(Known(getenv), func(path string) bool {
		_, err := os.Lstat(path)
		return errors.Is(err, fs.ErrNotExist) || slices.Contains(paths, path)
	})
	var text []byte
	for _, path := range append(known, paths...) {
		text = append(strconv.AppendQuote(text, path), '\n')
	}
	if err := replace(file, text); err != nil {
		return fmt.Errorf("note where the data is: %w", err)
	}
	return nil
}

// replace writes a file as a whole: who reads it sees the old one or the new one.
func replace(file string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".data-dirs-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// Known gives the paths noted so far, whether they still exist or not.
func Known(getenv func(string) string) []string {
	f, err := os.Open(stateFile(getenv))
	if err != nil {
		return nil // no control plane was started by this user
	}
	defer f.Close()
	var paths []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if path, err := strconv.Unquote(lines.Text()); err == nil {
			paths = append(paths, path)
		}
	}
	return paths
}

func stateFile(getenv func(string) string) string {
	dir := base(getenv, "XDG_STATE_HOME", ".local", "state")
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "sallyport", "data-dirs")
}

// base is a directory of the XDG base directory specification.
func base(getenv func(string) string, variable string, below ...string) string {
	if dir := getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	home := getenv("HOME")
	if home == "" {
		return ""
	}
	return filepath.Join(append([]string{home}, below...)...)
}
