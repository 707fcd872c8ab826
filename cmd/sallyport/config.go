package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
)

const (
	defaultServer = "http://127.0.0.1:8200"
	defaultTeam   = "default"
)

// settings say whom to talk to.
type settings struct {
	Server string
	Token  control.Secret
	CA     string // PEM
	Team   string
}

// settings joins flags, environment and login; the first that says something
// wins. What login kept belongs to its server: neither its token nor its CA is
// used for another one.
func (c *cli) settings() (settings, error) {
	kept, err := c.loadConfig()
	if err != nil {
		return settings{}, err
	}
	return c.settingsOver(kept)
}

func (c *cli) settingsOver(kept config) (settings, error) {
	s := settings{
		Server: first(string(c.flags.Server), c.getenv("SALLYPORT_SERVER"), kept.Server, defaultServer),
		Token:  control.Secret(c.getenv("SALLYPORT_TOKEN")),
	}
	url, err := client.ParseServer(s.Server)
	if err != nil {
		return settings{}, err
	}
	s.Server = url.String()
	same := s.Server == kept.Server
	if same {
		s.CA, s.Team = kept.CA, kept.Team
	}
	s.Team = first(string(c.flags.Team), c.getenv("SALLYPORT_TEAM"), s.Team, defaultTeam)
	switch {
	case c.flags.TokenFile != "":
		if s.Token, err = c.readToken(string(c.flags.TokenFile)); err != nil {
			return settings{}, err
		}
	case len(s.Token) == 0 && same:
		s.Token = control.Secret(kept.Token)
	}
	if c.flags.CAFile != "" {
		pem, err := os.ReadFile(string(c.flags.CAFile))
		if err != nil {
			return settings{}, fmt.Errorf("read --ca-file: %w", err)
		}
		if len(pem) == 0 {
			return settings{}, errors.New("--ca-file: the file is empty")
		}
		s.CA = string(pem)
	}
	return s, checkToken(s.Token)
}

// checkToken refuses what could not be a header's value, before net/http does
// and names it.
func checkToken(token control.Secret) error {
	for _, b := range token {
		if b <= ' ' || b > '~' {
			return errors.New("the API token has a space, line break or other character that no token has")
		}
	}
	return nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// config is what login keeps, as JSON.
type config struct {
	Server    string `json:"server"`
	Token     string `json:"token"`
	TokenFile string `json:"token_file,omitempty"` // where the token came from: run hides that too
	CA        string `json:"ca,omitempty"`         // PEM
	Team      string `json:"team,omitempty"`       // of the token, when it is one team's
}

// configDir is where login keeps its file (XDG Base Directory Specification).
func (c *cli) configDir() (string, error) {
	// A relative XDG_CONFIG_HOME is invalid and ignored, as the specification says.
	if dir := c.getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sallyport"), nil
	}
	if home := c.getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".config", "sallyport"), nil
	}
	return "", errors.New("neither HOME nor XDG_CONFIG_HOME is set, so there is no place for a configuration")
}

const configName = "config.json"

// loadConfig gives the zero config when there is none.
func (c *cli) loadConfig() (config, error) {
	dir, err := c.configDir()
	if err != nil {
		return config{}, nil
	}
	name := filepath.Join(dir, configName)
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return config{}, nil
	}
	if err != nil {
		return config{}, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return config{}, fmt.Errorf("read the configuration: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return config{}, withHint(fmt.Errorf("%s holds a token and is open to others (mode %04o)", name, info.Mode().Perm()),
			"chmod 600 "+name+", and replace the token if others use this machine")
	}
	var kept config
	decoder := json.NewDecoder(f)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&kept); err != nil {
		return config{}, withHint(fmt.Errorf("%s can't be read as a configuration", name), "write it anew: sallyport login --token-file FILE")
	}
	return kept, nil
}

// saveConfig replaces the file in one step: the old one or the new one is there
// whatever happens, and never readable by others.
func (c *cli) saveConfig(kept config) (string, error) {
	dir, err := c.configDir()
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(kept); err != nil {
		return "", fmt.Errorf("write the configuration: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("write the configuration: %w", err)
	}
	name := filepath.Join(dir, configName)
	if err := writeAtomic(name, text.Bytes()); err != nil {
		return "", fmt.Errorf("write the configuration: %w", err)
	}
	return name, nil
}

func writeAtomic(name string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".config-*") // made 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
