package kek

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/openbao/openbao/api/v2"

	"sallyport/control/seal"
)

// vaultKey is a key of the transit engine of HashiCorp Vault or OpenBao.
type vaultKey struct {
	client      *api.Client
	mount, name string
	tokenFile   string
}

// newVault reads https://HOST[:PORT]/MOUNT/keys/NAME[?token-file=PATH]. The token is
// that file's, read at each use, so that an agent may keep it fresh; without one,
// that of VAULT_TOKEN. The other variables of Vault's clients hold too.
func newVault(address string) (*vaultKey, error) {
	malformed := errors.New("want vault:https://HOST[:PORT]/MOUNT/keys/NAME, perhaps with ?token-file=PATH")
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, malformed
	}
	mount, name, found := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/keys/")
	if !found || mount == "" || name == "" || strings.Contains(name, "/") {
		return nil, malformed
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || len(query) > 1 || len(query) == 1 && query.Get("token-file") == "" {
		return nil, malformed
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && (ip == nil || !ip.IsLoopback()) {
		return nil, errors.New("data keys are not sent in the clear: want https://")
	}
	config := api.DefaultConfig()
	if config.Error != nil {
		return nil, config.Error
	}
	config.Address = u.Scheme + "://" + u.Host
	client, err := api.NewClient(config)
	if err != nil {
		return nil, err
	}
	return &vaultKey{client, mount, name, query.Get("token-file")}, nil
}

// ID has no host: a server may move.
func (k *vaultKey) ID() string { return "vault:" + k.mount + "/keys/" + k.name }

// Wrap implements seal.KEK.
func (k *vaultKey) Wrap(ctx context.Context, key, aad []byte) (blob []byte, id string, err error) {
	ciphertext, err := k.call(ctx, "encrypt", "ciphertext", map[string]any{
		"plaintext": base64.StdEncoding.EncodeToString(key), "associated_data": base64.StdEncoding.EncodeToString(aad),
		"context": base64.StdEncoding.EncodeToString(aad), // which a derived key needs, and any other passes over
	})
	return []byte(ciphertext), k.ID(), err
}

// Unwrap implements seal.KEK.
func (k *vaultKey) Unwrap(ctx context.Context, _ string, blob, aad []byte) ([]byte, error) {
	plain, err := k.call(ctx, "decrypt", "plaintext", map[string]any{
		"ciphertext": string(blob), "associated_data": base64.StdEncoding.EncodeToString(aad),
		"context": base64.StdEncoding.EncodeToString(aad),
	})
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(plain)
	if err != nil {
		return nil, errors.New("transit: the answer is no base64")
	}
	return key, nil
}

// call gives one field of the answer.
func (k *vaultKey) call(ctx context.Context, operation, field string, data map[string]any) (string, error) {
	client := k.client
	if k.tokenFile != "" {
		token, err := os.ReadFile(k.tokenFile)
		if err != nil {
			return "", fmt.Errorf("transit: read the token: %w", err)
		}
		client.SetToken(strings.TrimSpace(string(token)))
	}
	answer, err := client.Logical().WriteWithContext(ctx, k.mount+"/"+operation+"/"+k.name, data)
	var refused *api.ResponseError
	switch {
	case errors.As(err, &refused) && doesNotOpen(refused):
		return "", seal.ErrClosed
	case errors.As(err, &refused): // in one line, and without the URL
		return "", fmt.Errorf("transit answers %d to %s: %s", refused.StatusCode, operation, strings.Join(strings.Fields(strings.Join(refused.Errors, ", ")), " "))
	case err != nil:
		return "", fmt.Errorf("transit: %w", err)
	case answer == nil:
		return "", errors.New("transit: the answer is empty")
	}
	text, ok := answer.Data[field].(string)
	if !ok {
		return "", fmt.Errorf("transit: the answer has no %s", field)
	}
	return text, nil
}

// doesNotOpen tells what was changed, or belongs elsewhere, from a key that is gone, or
// whose version is not to be used any more: to all of it the answer is 400.
func doesNotOpen(refused *api.ResponseError) bool {
	return refused.StatusCode == http.StatusBadRequest && slices.ContainsFunc(refused.Errors, func(text string) bool {
		return strings.Contains(text, "message authentication failed") || strings.Contains(text, "invalid ciphertext")
	})
}
