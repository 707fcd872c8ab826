package datadir_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sallyport/control/datadir"
)

func TestRemember(t *testing.T) {
	home := t.TempDir()
	getenv := func(name string) string { return map[string]string{"HOME": home}[name] }
	if known := datadir.Known(getenv); known != nil {
		t.Errorf("known before anything was noted: %q", known)
	}
	kept, odd := filepath.Join(home, "a b"), filepath.Join(home, "line\nbreak")
	for _, dir := range []string{kept, odd} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, paths := range [][]string{{kept, "/nowhere/kek"}, {odd}, {kept}} {
		if err := datadir.Remember(getenv, paths...); err != nil {
			t.Fatal(err)
		}
	}
	if known := datadir.Known(getenv); !slices.Equal(known, []string{odd, kept}) {
		t.Errorf("known: %q", known)
	}
	if err := datadir.Remember(func(string) string { return "" }, kept); err == nil {
		t.Error("noted nowhere without an error")
	}
}

func TestDefault(t *testing.T) {
	home := func(name string) string { return map[string]string{"HOME": "/home/a"}[name] }
	xdg := func(name string) string {
		return map[string]string{"HOME": "/home/a", "XDG_DATA_HOME": "/data"}[name]
	}
	for _, tt := range []struct {
		uid    int
		getenv func(string) string
		want   string
	}{
		{0, home, "/var/lib/sallyport"},
		{1000, home, "/home/a/.local/share/sallyport"},
		{1000, xdg, "/data/sallyport"},
	} {
		if got := datadir.Default(tt.uid, tt.getenv); got != tt.want {
			t.Errorf("Default(%d) = %s, want %s", tt.uid, got, tt.want)
		}
	}
}
