package supervise

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// managedPolicies is below a browser's directory. Of two files that set the same
// policy the one whose name is later counts.
const (
	managedPolicies = "policies/managed"
	policyName      = "zz-sallyport.json"
)

// browserDirs are the directories that the packages of the Chromium family own,
// and read an administrator's policies below (policy_paths.cc of Chromium). These
// browsers verify by a root store of their own, which no variable moves: a policy
// is what adds to it. Chromium's headless shell reads none.
func browserDirs() []string {
	return []string{
		"/etc/chromium",
		"/etc/opt/chrome",
		"/etc/opt/chrome_for_testing", // what Playwright and Puppeteer install
		"/etc/opt/edge",
		"/etc/brave",
	}
}

// browserPolicy makes the policy that has a browser trust the certificates of a PEM file.
func browserPolicy(ca []byte) ([]byte, error) {
	var policy struct {
		CACertificates []string // base64 of DER
	}
	for block, rest := pem.Decode(ca); block != nil; block, rest = pem.Decode(rest) {
		policy.CACertificates = append(policy.CACertificates, base64.StdEncoding.EncodeToString(block.Bytes))
	}
	text, err := json.Marshal(policy)
	if err != nil {
		return nil, fmt.Errorf("make the browsers' policy: %w", err)
	}
	return text, nil
}

// bindPolicies adds the sandbox's policy to those of every browser that has a
// directory. The directory may lack the one below it that policies are in, and
// nothing is made on the machine's own disk: a copy with it goes over what is there.
func (s *stageSettings) bindPolicies() error {
	for i, dir := range browserDirs() {
		managed := filepath.Join(dir, managedPolicies)
		for _, target := range []string{managed, filepath.Dir(managed), dir} {
			info, err := os.Stat(target)
			if err != nil || !info.IsDir() {
				continue
			}
			replacement := filepath.Join(trustDir, "browser-"+strconv.Itoa(i))
			below, err := filepath.Rel(target, managed)
			if err == nil {
				err = s.addPolicy(target, replacement, filepath.Join(replacement, below))
			}
			if err != nil {
				return fmt.Errorf("add to the policies of %s: %w", dir, err)
			}
			if err := cover(replacement, target, 0); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// addPolicy copies a directory and puts the sandbox's policy into managed, which is in the copy.
func (s *stageSettings) addPolicy(dir, to, managed string) error {
	if err := s.copyReadable(dir, to); err != nil {
		return err
	}
	policy, err := os.ReadFile(policyFile)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(managed, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(managed, policyName), policy, 0o444)
}

// copyReadable copies a directory's files, directories and links, but for what we or the
// agent may not read.
func (s *stageSettings) copyReadable(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		switch {
		case d.IsDir():
			info, err := d.Info()
			if err == nil && path != from && s.keptFrom(info, 0o005) {
				return fs.SkipDir
			}
			return errors.Join(err, os.Mkdir(target, 0o755))
		case d.Type() == fs.ModeSymlink:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		case !d.Type().IsRegular():
			return nil
		}
		text, err := s.readPublic(path)
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(target, text, 0o444)
	})
}
