package external

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"

	"github.com/openbao/openbao/api/v2"

	"sallyport/control"
	"sallyport/control/exchange"
)

const (
	vaultAddress   = "address"
	vaultNamespace = "namespace"
	vaultKV        = "kv"
	vaultRoleID    = "role_id"
	vaultMount     = "approle_mount"
)

// vault is a KV engine, version 1 or 2, of HashiCorp Vault or OpenBao. It is opened by
// a token, or by the secret id of an AppRole.
// https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
type vault struct {
	client *http.Client
	logins *logins
}

func newVault(client *http.Client) *vault { return &vault{client, newLogins()} }

var mountName = regexp.MustCompile(`^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$`)

// Settings implements Provider.
func (v *vault) Settings() []exchange.Setting {
	return []exchange.Setting{
		{Name: vaultAddress, Required: true, Check: checkAddress},
		{Name: vaultNamespace, Check: matches(mountName, "it is NAME or NAME/NAME")},
		{Name: vaultKV, Check: oneOf("1", "2")},
		{Name: vaultRoleID},
		{Name: vaultMount, Check: matches(mountName, "it is NAME or NAME/NAME")},
	}
}

// CheckSecret implements Provider.
func (v *vault) CheckSecret(s control.Source, secret control.Secret) error {
	if s.Settings[vaultRoleID] == "" && s.Settings[vaultMount] != "" {
		return control.Errorf(control.CodeInvalid, "the setting %s goes with %s", vaultMount, vaultRoleID)
	}
	return control.CheckSecret(secret)
}

// CheckPlace implements Provider.
func (v *vault) CheckPlace(s control.Source, p control.Place) error {
	mount, rest, found := strings.Cut(p.Path, "/")
	switch {
	case mount == "" || !found:
		return control.Errorf(control.CodeInvalid, "the path %s: it begins with the engine's mount, as in kv/data/stripe", p.Path)
	case s.Settings[vaultKV] != "1" && !strings.Contains("/"+rest, "/data/"):
		return control.Errorf(control.CodeInvalid, "the path %s: in version 2 of the KV engine /data/ stands after the mount, as in kv/data/stripe; a source of version 1 has the setting %s=1", p.Path, vaultKV)
	}
	return nil
}

// Read implements Provider.
func (v *vault) Read(ctx context.Context, s control.Source, secret control.Secret, p control.Place) (Document, error) {
	client, err := v.open(s)
	if err != nil {
		return Document{}, err
	}
	if s.Settings[vaultRoleID] == "" {
		client.SetToken(string(secret))
		return v.read(ctx, client, s, p)
	}
	token, known := v.logins.token(s)
	for {
		if !known {
			if token, err = v.login(ctx, client, s, secret); err != nil {
				return Document{}, err
			}
		}
		client.SetToken(token)
		document, err := v.read(ctx, client, s, p)
		var answer *api.ResponseError
		if known && errors.As(err, &answer) && answer.StatusCode == http.StatusForbidden {
			known = false // the token was revoked, or is used up
			continue
		}
		return document, err
	}
}

// open makes a client that takes nothing of this process's environment, where a token
// of the operator's own may be, and follows no redirect.
func (v *vault) open(s control.Source) (*api.Client, error) {
	config := api.NewConfig()
	config.DisableEnvironment = true
	config.DisableRedirects = true
	config.MaxRetries = 0
	config.HttpClient = v.client
	config.Address = strings.TrimSuffix(s.Settings[vaultAddress], "/")
	client, err := api.NewClient(config)
	if err != nil {
		return nil, control.Errorf(control.CodeExchange, "has an address that can't be used")
	}
	if namespace := s.Settings[vaultNamespace]; namespace != "" {
		client.SetNamespace(namespace)
	}
	return client, nil
}

func (v *vault) login(ctx context.Context, client *api.Client, s control.Source, secret control.Secret) (string, error) {
	mount := s.Settings[vaultMount]
	if mount == "" {
		mount = "approle"
	}
	client.ClearToken()
	answer, err := client.Logical().WriteWithContext(ctx, "auth/"+mount+"/login", map[string]any{"role_id": s.Settings[vaultRoleID], "secret_id": string(secret)})
	var refused *api.ResponseError
	switch {
	case errors.As(err, &refused):
		return "", control.Errorf(control.CodeExchange, "answers %d to the login by AppRole: see %s, and 'sallyport source rotate' for another secret id", refused.StatusCode, vaultRoleID)
	case err != nil:
		return "", err
	case answer == nil || answer.Auth == nil || control.CheckSecret(control.Secret(answer.Auth.ClientToken)) != nil:
		return "", control.Errorf(control.CodeExchange, "gave no token for the login by AppRole")
	}
	v.logins.keep(s, answer.Auth.ClientToken, answer.Auth.LeaseDuration)
	return answer.Auth.ClientToken, nil
}

// vaultAnswer is the error of an answer, and still says its status to Read.
type vaultAnswer struct {
	error
	under error
}

func (a vaultAnswer) Unwrap() []error { return []error{a.error, a.under} }

func (v *vault) read(ctx context.Context, client *api.Client, s control.Source, p control.Place) (Document, error) {
	answer, err := client.Logical().ReadWithContext(ctx, p.Path)
	var refused *api.ResponseError
	switch {
	case errors.As(err, &refused) && refused.StatusCode == http.StatusForbidden:
		return Document{}, vaultAnswer{control.Errorf(control.CodeExchange, "answers 403: what opens it has expired, or may not read %s", p.Path), err}
	case errors.As(err, &refused):
		return Document{}, control.Errorf(control.CodeExchange, "answers %d", refused.StatusCode)
	case err != nil:
		return Document{}, err
	case answer == nil:
		return Document{}, control.Errorf(control.CodeExchange, "has nothing at %s", p.Path)
	case answer.LeaseID != "":
		return Document{}, control.Errorf(control.CodeExchange, "has an engine at %s whose secrets end with a lease; only those of a KV engine are read", p.Path)
	}
	data, version := answer.Data, ""
	if s.Settings[vaultKV] != "1" {
		data, _ = answer.Data["data"].(map[string]any)
		metadata, _ := answer.Data["metadata"].(map[string]any)
		number, _ := metadata["version"].(json.Number)
		if version = number.String(); metadata == nil || !smallNumber.MatchString(version) {
			return Document{}, control.Errorf(control.CodeExchange, "has no version 2 of the KV engine at %s; for version 1 the source has the setting %s=1", p.Path, vaultKV)
		}
	}
	if len(data) == 0 {
		return Document{}, control.Errorf(control.CodeExchange, "has nothing at %s, or what was there is deleted", p.Path)
	}
	whole, err := json.Marshal(data)
	document := Document{Whole: whole, Fields: texts(data), Version: version}
	if document.holds(client.Token()) { // as auth/token/lookup-self does, which every token may read
		document.Wipe()
		return Document{}, control.Errorf(control.CodeExchange, "gives at %s the token that opens it, which is for nobody", p.Path)
	}
	return document, err
}

var smallNumber = regexp.MustCompile(`^[0-9]{1,18}$`)
