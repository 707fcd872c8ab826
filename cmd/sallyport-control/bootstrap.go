package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"sallyport/control"
	"sallyport/control/admin"
	"sallyport/control/store"
)

const (
	firstTeam  = "default"
	adminToken = "admin" // name of the first token
	// bootstrapped is the installation's value that says that the first start is
	// over. It is written last.
	bootstrapped = "bootstrapped"
)

// bootstrap is the first start of an installation: a team, and a token for its
// owner, in a file. Every step may be done already, since a start may have been
// killed after any of them; once all were done none is repeated, so that a token
// that was removed stays removed.
func bootstrap(ctx context.Context, s *store.Store, dir *dataDir) error {
	if _, err := s.GetMeta(ctx, bootstrapped); control.CodeOf(err) != control.CodeNotFound {
		return err
	}
	if _, err := s.CreateTeam(ctx, firstTeam, system("team.create", firstTeam)); err != nil && control.CodeOf(err) != control.CodeConflict {
		return fmt.Errorf("make the team %s: %w", firstTeam, err)
	}
	if err := firstToken(ctx, s, dir); err != nil {
		return fmt.Errorf("make the admin token: %w", err)
	}
	_, err := s.SetMetaIfAbsent(ctx, bootstrapped, []byte(time.Now().UTC().Format(time.RFC3339)))
	return err
}

// firstToken puts the token into its file first and its hash into the database
// second: the other way round a crash could leave a token that nobody knows.
func firstToken(ctx context.Context, s *store.Store, dir *dataDir) error {
	text, err := readOrMakeToken(dir)
	if err != nil {
		return err
	}
	hash := admin.HashToken(text)
	_, err = s.CreateToken(ctx, "", control.Token{Name: adminToken, Role: control.RoleOwner}, hash, system("token.create", string(control.RoleOwner)+" "+adminToken))
	switch {
	case err == nil:
		return nil
	case control.CodeOf(err) != control.CodeConflict:
		return err
	}
	if _, err := s.TokenByHash(ctx, hash); control.CodeOf(err) == control.CodeUnauthorized {
		// Another replica was first; its token is the one, and ours opens nothing.
		return os.Remove(dir.file(adminTokenFile))
	} else if err != nil {
		return err
	}
	return nil
}

// knownToken gives the place of the admin token if it still opens anything, else "".
func knownToken(ctx context.Context, s *store.Store, dir *dataDir) string {
	content, err := os.ReadFile(dir.file(adminTokenFile))
	if err != nil {
		return ""
	}
	if _, err := s.TokenByHash(ctx, admin.HashToken(strings.TrimSpace(string(content)))); err != nil {
		return ""
	}
	return dir.file(adminTokenFile)
}

// system is the event of an act that nobody asked for.
func system(kind, detail string) control.Event {
	return control.Event{Kind: kind, Actor: "system", Detail: detail}
}

func readOrMakeToken(dir *dataDir) (string, error) {
	content, err := os.ReadFile(dir.file(adminTokenFile))
	if text := strings.TrimSpace(string(content)); err == nil && admin.IsToken(text) {
		return text, nil
	} else if err == nil {
		return "", withHint(fmt.Errorf("%s holds no API token: it is damaged, or another file", dir.file(adminTokenFile)), "remove it, and the next start makes a new one")
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	text := admin.NewToken()
	return text, dir.write(adminTokenFile, []byte(text+"\n"))
}
