package external

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"sallyport/control"
	"sallyport/control/exchange"
)

const onePasswordAddress = "address"

// onePassword is a 1Password Connect server, opened by one of its tokens. It is spoken
// to without 1Password's own client, which can't be given an http.Client, and so would
// go wherever a team says. A path is VAULT/ITEM, each by its title or id.
// https://developer.1password.com/docs/connect/api-reference/
type onePassword struct{ client *http.Client }

var onePasswordID = regexp.MustCompile(`^[a-z0-9]{26}$`)

// Settings implements Provider.
func (o *onePassword) Settings() []exchange.Setting {
	return []exchange.Setting{{Name: onePasswordAddress, Required: true, Check: checkAddress}}
}

// CheckSecret implements Provider.
func (o *onePassword) CheckSecret(_ control.Source, secret control.Secret) error {
	return control.CheckSecret(secret)
}

// CheckPlace implements Provider.
func (o *onePassword) CheckPlace(_ control.Source, p control.Place) error {
	switch {
	case strings.Count(p.Path, "/") != 1 || strings.HasPrefix(p.Path, "/"):
		return control.Errorf(control.CodeInvalid, "the path %s: it is VAULT/ITEM, by title or id", p.Path)
	case len(p.Fields) == 0:
		return control.Errorf(control.CodeInvalid, "the path %s: say which field, as %s:%s#password", p.Path, p.Source, p.Path)
	}
	return nil
}

// Read implements Provider.
func (o *onePassword) Read(ctx context.Context, s control.Source, secret control.Secret, p control.Place) (Document, error) {
	ask := func(path string, into any) error { return o.ask(ctx, s, secret, path, into) }
	vaultName, itemName, _ := strings.Cut(p.Path, "/")
	vault, err := find(ask, "/v1/vaults", "name", vaultName)
	if err != nil {
		return Document{}, err
	}
	items := "/v1/vaults/" + vault + "/items"
	item, err := find(ask, items, "title", itemName)
	if err != nil {
		return Document{}, err
	}
	var read struct {
		Version int64 `json:"version"`
		Fields  []struct {
			ID, Label, Value string
			Section          struct{ ID string }
		} `json:"fields"`
		Sections []struct{ ID, Label string } `json:"sections"`
	}
	if err := ask(items+"/"+item, &read); err != nil {
		return Document{}, err
	}
	sections := map[string]string{}
	for _, section := range read.Sections {
		sections[section.ID] = section.Label
	}
	document := Document{Version: fmt.Sprint(read.Version), Fields: map[string]control.Secret{}}
	twice := map[string]bool{}
	for _, f := range read.Fields {
		for _, name := range []string{f.ID, f.Label, sections[f.Section.ID] + "/" + f.Label} {
			if _, found := document.Fields[name]; found && name != f.ID {
				twice[name] = true
			}
			document.Fields[name] = control.Secret(f.Value)
		}
	}
	for _, f := range p.Fields {
		if twice[f.Field] {
			document.Wipe()
			return Document{}, control.Errorf(control.CodeExchange, "has several fields %q at %s: name it by SECTION/LABEL, or by its id", f.Field, p.Path)
		}
	}
	return document, nil
}

// find gives the id of what has a name, which may be its id.
func find(ask func(string, any) error, list, attribute, name string) (string, error) {
	if onePasswordID.MatchString(name) {
		return name, nil
	}
	var found []struct {
		ID string `json:"id"`
	}
	if err := ask(list+"?filter="+url.QueryEscape(fmt.Sprintf("%s eq %q", attribute, name)), &found); err != nil {
		return "", err
	}
	switch {
	case len(found) == 0:
		return "", control.Errorf(control.CodeExchange, "has nothing that is called %q, or may not show it", name)
	case len(found) > 1:
		return "", control.Errorf(control.CodeExchange, "has several that are called %q: use the id", name)
	case !onePasswordID.MatchString(found[0].ID):
		return "", errors.New("no id")
	}
	return found[0].ID, nil
}

// ask reads one answer, of the size that the client allows.
func (o *onePassword) ask(ctx context.Context, s control.Source, secret control.Secret, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(s.Settings[onePasswordAddress], "/")+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+string(secret))
	answer, err := o.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
		return json.NewDecoder(answer.Body).Decode(into)
	case http.StatusUnauthorized, http.StatusForbidden:
		return control.Errorf(control.CodeExchange, "answers %d: the token is void, or may not read that vault", answer.StatusCode)
	}
	return control.Errorf(control.CodeExchange, "answers %d", answer.StatusCode)
}
