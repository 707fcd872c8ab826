package supervise

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// trustDir is where the sandbox finds its certificates: a read-only tmpfs of its own.
const (
	trustDir   = runDir + "/sallyport"
	caFile     = trustDir + "/ca.pem"        // the sandbox's CA alone
	bundleFile = trustDir + "/ca-bundle.pem" // the machine's bundle and the CA
	javaFile   = trustDir + "/cacerts"       // the same as a Java trust store
	policyFile = trustDir + "/browser.json"  // the CA as a policy of browsers
	resolvFile = trustDir + "/resolv.conf"
)

// bundlePaths are where distributions and programs look for a bundle.
func bundlePaths() []string {
	return []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Alpine, Arch
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/pki/tls/cert.pem",
		"/etc/pki/tls/cacert.pem",
		"/etc/ssl/ca-bundle.pem", // SUSE
		"/var/lib/ca-certificates/ca-bundle.pem",
		"/etc/ssl/cert.pem",                                // Alpine, OpenSSL's default
		"/etc/ssl/certs/ca-bundle.crt",                     // NixOS
		"/etc/ca-certificates/extracted/tls-ca-bundle.pem", // Arch
		"/usr/lib/ssl/cert.pem",
		"/usr/local/ssl/cert.pem",
		"/usr/local/etc/ssl/cert.pem",
		"/usr/local/share/certs/ca-root-nss.crt",
		"/usr/local/share/ca-certificates/ca-certificates.crt",
	}
}

// javaPaths are where Java runtimes keep their trust store, as patterns.
func javaPaths(home string) []string {
	paths := []string{
		"/etc/ssl/certs/java/cacerts",
		"/etc/pki/java/cacerts",
		"/etc/pki/ca-trust/extracted/java/cacerts",
		"/var/lib/ca-certificates/java-cacerts",
		"/usr/lib/jvm/*/lib/security/cacerts",
		"/usr/lib/jvm/*/jre/lib/security/cacerts",
		"/opt/java/*/lib/security/cacerts",
		"/opt/*/lib/security/cacerts",
	}
	if home != "" {
		paths = append(paths, filepath.Join(home, "lib/security/cacerts"), filepath.Join(home, "jre/lib/security/cacerts"))
	}
	return paths
}

// maxPublic bounds a file whose copy the agent is given, in bytes; bundles have a quarter MiB.
const maxPublic = 16 << 20

// readPublic reads a regular file that the agent may have a copy of. One that its mode keeps
// from the agent is fs.ErrPermission, though we, as root, could read it. So is what is no
// file: a pipe would be waited for, and a device never ends.
func (s *stageSettings) readPublic(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular(), s.keptFrom(info, 0o004):
		return nil, fmt.Errorf("%s is not for everybody to read: %w", path, fs.ErrPermission)
	case info.Size() > maxPublic:
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxPublic)
	}
	return io.ReadAll(io.LimitReader(f, maxPublic))
}

// keptFrom reports whether others lack one of the rights to a file, and the agent is one of
// them: it has ids of its own, and none of those in the image or on the machine is its.
func (s *stageSettings) keptFrom(info fs.FileInfo, rights fs.FileMode) bool {
	return s.UIDs.First != 0 && !s.owns(info) && info.Mode().Perm()&rights != rights
}

// machineBundle gives the bundle that the image came with, nil if it has none.
func (s *stageSettings) machineBundle() ([]byte, error) {
	for _, path := range bundlePaths() {
		b, err := s.readPublic(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the machine's certificates: %w", err)
		}
		return b, nil
	}
	return nil, nil
}

// checkCA refuses what is not exactly certificates: a private key must never
// come this way.
func checkCA(ca []byte) error {
	rest := bytes.TrimSpace(ca)
	if len(rest) == 0 {
		return errors.New("the worker gave no CA certificate")
	}
	for len(rest) > 0 {
		block, after := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return errors.New("the worker gave something else than a CA certificate in PEM")
		}
		rest = bytes.TrimSpace(after)
	}
	return nil
}

// writeTrust fills trustDir, which is mounted and still writable.
func (s *stageSettings) writeTrust() error {
	ca := s.CA
	bundle, err := s.machineBundle()
	if err != nil {
		return err
	}
	if n := len(bundle); n > 0 && bundle[n-1] != '\n' {
		bundle = append(bundle, '\n')
	}
	bundle = append(bundle, ca...)
	store, err := javaStore(bundle)
	if err != nil {
		return err
	}
	policy, err := browserPolicy(ca)
	if err != nil {
		return err
	}
	for path, content := range map[string][]byte{caFile: ca, bundleFile: bundle, javaFile: store, policyFile: policy} {
		if err := os.WriteFile(path, content, 0o444); err != nil {
			return fmt.Errorf("install trust: %w", err)
		}
	}
	return nil
}

// bindTrust puts the sandbox's bundle over every one that exists, and its policy
// among those of browsers.
func (s *stageSettings) bindTrust() error {
	if err := bindOver(bundleFile, existing(bundlePaths())); err != nil {
		return err
	}
	if err := bindOver(javaFile, existing(javaPaths(lookup(s.Env, "JAVA_HOME")))); err != nil {
		return err
	}
	return s.bindPolicies()
}

// existing resolves patterns to the files behind them, each once.
func existing(patterns []string) []string {
	var files []string
	for _, pattern := range patterns {
		matches, _ := filepath.Glob(pattern)
		for _, path := range matches {
			file, err := filepath.EvalSymlinks(path)
			if err == nil && !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
	}
	return files
}
