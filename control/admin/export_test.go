package admin

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"sallyport/control"
)

// LeastRoles and EveryTeam are the tables of role.go.
func LeastRoles() map[string]control.Role { return leastRoles }
func EveryTeam() map[string]bool          { return everyTeam }

// Cursor is cursor.
func Cursor(operation, from string) string { return cursor(operation, from) }

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
