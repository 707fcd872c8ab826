package supervise

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// tmpfsSize bounds each writable tmpfs of a sandbox: a share of the memory that
// the machine has. A container's own limit counts it as well.
const tmpfsSize = "size=25%"

// temporary lists the directories where programs of every user meet, by their
// sockets above all. A sandbox has its own.
func temporary() []string { return []string{"/tmp", "/var/tmp"} }

// underAny reports whether path is below one of dirs.
func underAny(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(path, dir+"/") })
}

// shared is a file or directory of the machine that the sandbox keeps where it is.
type shared struct {
	path string
	file *os.File // opened before anything was mounted over it
}

// openShared opens what is to be seen of the directories that become private:
// the working directory and what the user named.
func openShared(s *stageSettings) ([]shared, error) {
	if dir, err := filepath.EvalSymlinks(s.Dir); err == nil {
		s.Dir = dir
	}
	paths := s.Share
	if underAny(s.Dir, temporary()) {
		paths = append([]string{s.Dir}, paths...)
	}
	var all []shared
	for _, path := range paths {
		if !underAny(path, append(temporary(), runDir)) {
			continue // it stays in sight anyway
		}
		f, err := os.OpenFile(path, unix.O_PATH, 0)
		if err != nil && path == s.Dir {
			continue // out of reach: the agent starts elsewhere
		}
		if err != nil {
			return nil, fmt.Errorf("share %s: %w", path, err)
		}
		all = append(all, shared{path, f})
	}
	return all, nil
}

// mountTemporary gives the sandbox empty directories in the place of those that
// it would share with programs outside, whose sockets would be a way out.
func mountTemporary() error {
	for _, dir := range temporary() {
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
			continue // a link leads to another of them, or into the root
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777,"+tmpfsSize); err != nil {
			return fmt.Errorf("mount the sandbox's %s: %w", dir, err)
		}
	}
	return nil
}

// bindShared puts back what openShared opened.
func bindShared(all []shared) error {
	for _, s := range all {
		info, err := s.file.Stat()
		if err != nil {
			return fmt.Errorf("share %s: %w", s.path, err)
		}
		if err := makeTarget(s.path, info.IsDir()); err != nil {
			return fmt.Errorf("share %s: %w", s.path, err)
		}
		if err := cover(fmt.Sprintf("/proc/self/fd/%d", s.file.Fd()), s.path, unix.MS_REC); err != nil {
			return fmt.Errorf("share %s: %w", s.path, err)
		}
		s.file.Close()
	}
	return nil
}

// makeTarget makes something to mount over, unless it is there because a
// directory above it is shared too.
func makeTarget(path string, dir bool) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	if dir {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o644)
}

// makeTemporary makes the directories that the agent's environment promises, where
// they were in a directory that is the sandbox's own now.
func makeTemporary(environ []string) error {
	for _, name := range []string{"TMPDIR", "HOME"} {
		path := filepath.Clean(lookup(environ, name))
		if !underAny(path, temporary()) {
			continue
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		err := os.MkdirAll(path, 0o755)
		if err == nil {
			err = os.Chmod(path, 0o777|os.ModeSticky)
		}
		if err != nil {
			return fmt.Errorf("make %s=%s in the sandbox: %w", name, path, err)
		}
	}
	return nil
}
