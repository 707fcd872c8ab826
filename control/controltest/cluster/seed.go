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

// Seed is a cluster that is made once for a checkout and copied, which takes a tenth of the
// making. It is made anew when what it was made by has changed.
type Seed struct {
	Name    string
	Sources []string                                    // of Prepare: patterns of files, from the module's root
	Prepare func(ctx context.Context, url string) error // nil: nothing more is done
}

// Empty is as embedded.Start makes one.
var Empty = Seed{Name: "empty"}

// Lay puts a copy where a control plane with that data directory has its cluster, as if it
// had been there before.
func (s Seed) Lay(dataDir string) error {
	from, err := s.dir()
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

// dir gives the directory of the seed, whose name tells the user, the versions of Postgres
// that Debian has here, and the sources.
func (s Seed) dir() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	versions, err := filepath.Glob("/usr/lib/postgresql/*")
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintln(sum, settings, os.Geteuid(), versions)
	for _, pattern := range append([]string{"control/embedded/*.go"}, s.Sources...) {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return "", err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			fmt.Fprintln(sum, file, len(text))
			sum.Write(text)
		}
	}
	dir := filepath.Join(root, ".cache", "postgres", fmt.Sprintf("%s-%x", s.Name, sum.Sum(nil)[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	return dir, s.make(dir)
}

// make makes the cluster beside its place; of several that do so at once, one moves it there.
func (s Seed) make(dir string) (err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	unfinished, err := os.MkdirTemp(filepath.Dir(dir), "new.")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(unfinished)) }()
	ctx := context.Background()
	cluster, err := embedded.Start(ctx, unfinished, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if s.Prepare != nil {
		err = s.Prepare(ctx, cluster.URL())
	}
	if err := errors.Join(err, cluster.Stop(ctx)); err != nil {
		return err
	}
	conf, err := os.OpenFile(filepath.Join(unfinished, "postgres/data/postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = conf.WriteString(settings)
	if err := errors.Join(err, conf.Close()); err != nil {
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
