package exchange

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"sallyport/control"
	"sallyport/control/api"
)

const githubAPI = "https://api.github.com"

var (
	digits     = regexp.MustCompile(`^[0-9]{1,19}$`)
	appID      = regexp.MustCompile(`^[A-Za-z0-9.]{1,64}$`) // a number, or a client ID
	repository = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
	permission = regexp.MustCompile(`^[a-z_]{1,64}$`)
)

// githubApp is the private key of a GitHub App: it gives tokens of one installation,
// narrowed to repositories and permissions.
func githubApp() Kind {
	return Kind{
		Settings: []Setting{
			{Name: "app_id", Required: true, Check: matches(appID, "it is the app's number or client ID")},
			{Name: "installation_id", Required: true, Check: matches(digits, "it is a number")},
			{Name: "repositories", Check: func(value string) error { _, err := readRepositories(value); return err }},
			{Name: "permissions", Check: func(value string) error { _, err := readPermissions(value); return err }},
			{Name: "api_url", Check: checkURL, Steers: true},
		},
		CheckSecret: checkKey,
		Remote:      true,
		Exchange:    installationToken,
	}
}

func matches(pattern *regexp.Regexp, want string) func(string) error {
	return func(value string) error {
		if !pattern.MatchString(value) {
			return errors.New(want)
		}
		return nil
	}
}

func readRepositories(value string) ([]string, error) {
	names := strings.Split(value, ",")
	for _, name := range names {
		if !repository.MatchString(name) {
			return nil, errors.New("it is names of repositories without their owner, as in app,docs")
		}
	}
	return names, nil
}

func readPermissions(value string) (map[string]string, error) {
	permissions := map[string]string{}
	for pair := range strings.SplitSeq(value, ",") {
		name, level, _ := strings.Cut(pair, "=")
		if !permission.MatchString(name) || oneOf("read", "write", "admin")(level) != nil {
			return nil, errors.New("it is as in contents=read,issues=write")
		}
		permissions[name] = level
	}
	return permissions, nil
}

// installationToken asks for a token of the installation (docs.github.com/en/rest/apps/apps).
func installationToken(ctx context.Context, client *http.Client, c control.Credential, secret control.Secret) (Minted, error) {
	signed, err := assertion{issuer: c.Settings["app_id"]}.sign(secret)
	if err != nil {
		return Minted{}, err
	}
	base := c.Settings["api_url"]
	if base == "" {
		base = githubAPI
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(base, "/")+"/app/installations/"+c.Settings["installation_id"]+"/access_tokens", narrowed(c.Settings))
	if err != nil {
		return Minted{}, control.Errorf(control.CodeInvalid, "the setting api_url can't be asked")
	}
	r.Header.Set("Authorization", "Bearer "+signed)
	r.Header.Set("Accept", "application/vnd.github+json")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	var made struct {
		Token  string    `json:"token"`
		Expiry time.Time `json:"expires_at"`
	}
	if err := answered(client, r, http.StatusCreated, &made); err != nil {
		return Minted{}, err
	}
	token := control.Secret(made.Token)
	if control.CheckSecret(token) != nil || made.Expiry.IsZero() {
		token.Wipe()
		return Minted{}, control.Errorf(control.CodeExchange, "%s gave no token with an expiry", r.URL.Host)
	}
	return Minted{Material: api.Material{Token: token}, Expiry: made.Expiry}, nil
}

// narrowed is the body that asks for less than the installation may do.
func narrowed(s control.Settings) io.Reader {
	body := map[string]any{}
	if names, err := readRepositories(s["repositories"]); err == nil {
		body["repositories"] = names
	}
	if permissions, err := readPermissions(s["permissions"]); err == nil {
		body["permissions"] = permissions
	}
	text, _ := json.Marshal(body) // of texts: never fails
	return bytes.NewReader(text)
}

// answered sends r and reads the JSON of its answer, which must have the status.
func answered(client *http.Client, r *http.Request, status int, into any) error {
	response, err := client.Do(r)
	if err != nil {
		return failed(r.URL.String(), err)
	}
	defer response.Body.Close()
	if response.StatusCode != status {
		return control.Errorf(control.CodeExchange, "%s answers %d", r.URL.Host, response.StatusCode)
	}
	if json.NewDecoder(response.Body).Decode(into) != nil {
		return control.Errorf(control.CodeExchange, "%s answers with what is not the JSON that is expected", r.URL.Host)
	}
	return nil
}
