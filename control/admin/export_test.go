package admin

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"sallyport/control"
)

// LeastRoles, EveryTeam and OpenToAll are the tables of role.go.
func LeastRoles() map[string]control.Role { return leastRoles }
func EveryTeam() map[string]bool          { return everyTeam }
func OpenToAll() map[string]bool          { return openToAll }

// NewSessionValue is newSessionValue.
func NewSessionValue() string { return newSessionValue() }

// Cursor is cursor.
func Cursor(operation, from string) string { return cursor(operation, from) }

// FillPaces lets n strangers take one turn each; it gives how many limiters there are
// then, and whether the last was let through.
func FillPaces(pace Pace, n int) (limiters int, last bool) {
	p := newPaced(pace)
	for i := range n {
		last = p.of(fmt.Sprint(i)).Allow()
	}
	return len(p.by), last
}

// DecodeCredential reads the body of a new credential, and gives its secret and all
// of it as it prints.
func DecodeCredential(body []byte, mediaType string) (secret, printed string, err error) {
	r, err := http.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	if err != nil {
		return "", "", err
	}
	r.Header.Set("Content-Type", mediaType)
	c, err := decode[newCredential](context.WithValue(context.Background(), recordKey{}, &requestRecord{request: r}))
	if err != nil {
		return "", "", err
	}
	return string(c.Secret.Secret), fmt.Sprintf("%v %+v", c, *c), nil
}

// How many calls of one kind go on at once.
const (
	FollowersOfOne  = followersOfOne
	FollowersOfTeam = followersOfTeam
	OutwardOfTeam   = outwardOfTeam
)
