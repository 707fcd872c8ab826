package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"

	"sallyport/control/embedded"
)

// settings are of seeds. A test can kill processes, but not the machine, and what a
// process has written survives it: only a machine that goes down loses what was not synced.
const settings = "fsync = off\n"

// Lay puts a new cluster where a control plane with that data directory has its own, as if
// it had been there before: a copy of a seed, which takes a tenth of the making of one.
func Lay(dataDir string) error {
	from, err := seed()
	if err != nil {
		return fmt.Errorf("make a cluster for tests: %w", err)
	}
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return err
	}
	if output, err := exec.Command("cp", "-a", from, filepath.Join(dataDir, "postgres")).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the tests' cluster: %w\n%s", err, output)
	}
	return nil
}

// seed gives the directory of a cluster that does not run. It is made once for a checkout,
// a user, the versions of Postgres that Debian has here, and what embedded makes of them.
func seed() (dir string, err error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintln(sum, settings, os.Geteuid())
	for _, pattern := range []string{"/usr/lib/postgresql/*", filepath.Join(root, "control/embedded/*.go")} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		for _, file := range files {
			fmt.Fprintln(sum, file)
			if filepath.Ext(file) != ".go" {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			sum.Write(text)
		}
	}
	dir = filepath.Join(root, ".cache", "postgres", fmt.Sprintf("%x", sum.Sum(nil)[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	return dir, makeSeed(dir)
}

// makeSeed makes a cluster beside its place; of several that do so at once, one moves it there.
func makeSeed(dir string) (err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	unfinished, err := os.MkdirTemp(filepath.Dir(dir), "new.")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(unfinished)) }()
	cluster, err := embedded.Start(context.Background(), unfinished, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := cluster.Stop(context.Background()); err != nil {
		return err
	}
	conf, err := os.OpenFile(filepath.Join(unfinished, "postgres/data/postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := conf.WriteString(settings); err != nil {
		return errors.Join(err, conf.Close())
	}
	if err := conf.Close(); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(unfinished, "postgres"), dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// moduleRoot is the folder with go.mod, in or above which a test runs.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("there is no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}
