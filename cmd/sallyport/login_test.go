package main

import (
	"bytes"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhoIsAskedAndAs(t *testing.T) {
	one, other := newWhoControl(t), newWhoControl(t)
	home, dir := t.TempDir(), t.TempDir()
	file := write(t, filepath.Join(dir, "token"), "of-file\n")
	env := func(more ...string) map[string]string {
		m := map[string]string{"HOME": home}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	if o := call(t, env(), "of-acme\n", "login", "--server", one.URL+"/", "--token-file", "-"); o.status != 0 || !strings.Contains(o.stdout, "as laptop (admin of team acme)") {
		t.Fatalf("login: %+v", o)
	}
	for _, tt := range []struct {
		name string
		env  map[string]string
		args []string
		at   *whoControl
		want string
	}{
		{"login", env(), nil, one, "GET /v1/teams/acme/vaults of-acme"},
		{"token of the environment before login's", env("SALLYPORT_TOKEN", "of-env"), nil, one, "GET /v1/teams/acme/vaults of-env"},
		{"file before the environment", env("SALLYPORT_TOKEN", "of-env"), []string{"--token-file", file}, one, "GET /v1/teams/acme/vaults of-file"},
		{"team of the environment", env("SALLYPORT_TEAM", "blue"), nil, one, "GET /v1/teams/blue/vaults of-acme"},
		{"team flag first", env("SALLYPORT_TEAM", "blue"), []string{"--team", "red"}, one, "GET /v1/teams/red/vaults of-acme"},
		{"server of the environment", env("SALLYPORT_SERVER", other.URL, "SALLYPORT_TOKEN", "of-env"), nil, other, "GET /v1/teams/default/vaults of-env"},
		{"server flag first", env("SALLYPORT_SERVER", other.URL), []string{"--server", one.URL}, one, "GET /v1/teams/acme/vaults of-acme"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.at.calls = nil
			if o := call(t, tt.env, "", append(tt.args, "vault", "list")...); o.status != 0 {
				t.Fatalf("%+v", o)
			}
			if tt.at.last() != tt.want {
				t.Errorf("asked %q, want %q", tt.at.last(), tt.want)
			}
		})
	}
	t.Run("login's token stays with its server", func(t *testing.T) {
		other.calls = nil
		o := call(t, env("SALLYPORT_SERVER", other.URL), "", "vault", "list")
		if o.status != 1 || !strings.Contains(o.stderr, "no API token for "+other.URL) || len(other.calls) != 0 {
			t.Errorf("%+v, calls %q", o, other.calls)
		}
	})
	t.Run("logout", func(t *testing.T) {
		if o := call(t, env(), "", "logout"); o.status != 0 {
			t.Errorf("%+v", o)
		}
		if o := call(t, env(), "", "--server", one.URL, "vault", "list"); o.status != 1 {
			t.Errorf("still logged in: %+v", o)
		}
	})
}

func TestLoginKeepsItsFilePrivate(t *testing.T) {
	f := newWhoControl(t)
	xdg := filepath.Join(t.TempDir(), "config")
	env := map[string]string{"HOME": t.TempDir(), "XDG_CONFIG_HOME": xdg, "SALLYPORT_SERVER": f.URL}
	name := filepath.Join(xdg, "sallyport", "config.json")
	login := func() outcome { return call(t, env, canary, "login", "--token-file", "-") }
	if o := login(); o.status != 0 || strings.Contains(o.stdout+o.stderr, canary) {
		t.Fatalf("login: %+v", o)
	}
	for path, want := range map[string]os.FileMode{name: 0o600, filepath.Dir(name): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %o", path, info.Mode(), err, want)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(name)); err != nil || len(left) != 1 {
		t.Errorf("files left behind: %v, %v", left, err)
	}
	kept, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"open to others", string(kept), 0o644, "open to others"},
		{"cut off", string(kept[:len(kept)/2]), 0o600, "can't be read"},
		{"unknown field", `{"sever":"x","token":"` + canary + `"}`, 0o600, "can't be read"},
		{"empty", "", 0o600, "can't be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			write(t, name, tt.text)
			if err := os.Chmod(name, tt.mode); err != nil {
				t.Fatal(err)
			}
			o := call(t, env, "", "vault", "list")
			if o.status != 1 || !strings.Contains(o.stderr, tt.want) || strings.Contains(o.stderr, canary) {
				t.Errorf("%+v, want an error with %q", o, tt.want)
			}
			if o := login(); o.status != 0 {
				t.Errorf("login does not mend it: %+v", o)
			}
			if o := call(t, env, "", "vault", "list"); o.status != 0 {
				t.Errorf("not mended: %+v", o)
			}
		})
	}
	t.Run("a refused token changes nothing", func(t *testing.T) {
		f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) })
		if o := call(t, env, "another", "login", "--token-file", "-"); o.status != 1 || !strings.Contains(o.stderr, "hint: the token is wrong") {
			t.Errorf("%+v", o)
		}
		if now, err := os.ReadFile(name); err != nil || !bytes.Equal(now, kept) {
			t.Errorf("the configuration changed: %v", err)
		}
	})
}

func TestLoginKeepsTheCA(t *testing.T) {
	f := &whoControl{}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(f.answer))
	f.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // refused handshakes are meant
	f.StartTLS()
	t.Cleanup(f.Close)
	dir := t.TempDir()
	env := map[string]string{"HOME": dir}
	ca := write(t, filepath.Join(dir, "ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})))
	login := []string{"login", "--server", f.URL, "--token-file", "-"}
	if o := call(t, env, canary, login...); o.status != 1 || !strings.Contains(o.stderr, "hint: trust its CA with --ca-file") {
		t.Errorf("%+v", o)
	}
	for name, text := range map[string]string{"none": "", "key": "-----BEGIN PRIVATE KEY-----\n" + canary} {
		file := write(t, filepath.Join(dir, name), text)
		if o := call(t, env, canary, append(login, "--ca-file", file)...); o.status != 1 || strings.Contains(o.stderr, canary) {
			t.Errorf("%s: %+v", name, o)
		}
	}
	if len(f.calls) != 0 {
		t.Fatalf("the token was sent: %q", f.calls)
	}
	if o := call(t, env, canary, append(login, "--ca-file", ca)...); o.status != 0 {
		t.Fatalf("%+v", o)
	}
	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	if o := call(t, env, "", "vault", "list"); o.status != 0 {
		t.Errorf("the CA was not kept: %+v", o)
	}
}
