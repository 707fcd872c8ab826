package embedded

import (
	"os"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// What an initdb without its parent still writes stops no start.
func TestInitdbThatGoesOn(t *testing.T) {
	dir := t.TempDir()
	unfinished := filepath.Join(dir, "postgres", "data.new")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			deep := filepath.Join(unfinished, "base", strconv.Itoa(i%10))
			os.MkdirAll(deep, 0o700)
			os.WriteFile(filepath.Join(deep, strconv.Itoa(i%100)), nil, 0o600)
		}
	}()
	c := start(t, dir)
	close(stop)
	<-stopped
	query(t, c.URL(), "select 1")
	if _, err := os.Stat(filepath.Join(dir, "postgres", "data", "base", "0")); err == nil {
		t.Error("the orphan wrote into the cluster")
	}
}

// nobody is who other services are too.
func TestOwner(t *testing.T) {
	users := func(known ...string) lookup {
		return func(name string) (*osuser.User, error) {
			for i, k := range known {
				if k == name {
					return &osuser.User{Uid: strconv.Itoa(900 + i), Gid: "900"}, nil
				}
			}
			return nil, osuser.UnknownUserError(name)
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	for _, tc := range []struct {
		users lookup
		uid   uint32
	}{
		{users("sallyport", "postgres", "nobody"), 900},
		{users("nobody", "postgres"), 901},
	} {
		owner, err := ownerOf(none, tc.users)
		if err != nil || owner.Uid != tc.uid {
			t.Errorf("runs as %+v, %v; want %d", owner, err, tc.uid)
		}
	}
	if owner, err := ownerOf(none, users("nobody")); err == nil || !strings.Contains(err.Error(), "useradd --system sallyport") || !strings.Contains(err.Error(), "--database") {
		t.Errorf("runs as %+v, %v", owner, err)
	}
}
