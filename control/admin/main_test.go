package admin_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sallyport/control"
	"sallyport/control/admin"
	"sallyport/control/controltest"
)

var plane *controltest.Plane

func TestMain(m *testing.M) { controltest.Main(m, &plane, validateAnswers) }

// token makes an API token with a role, for a team or with "" for every team.
func token(t *testing.T, team *controltest.Team, role control.Role) string {
	t.Helper()
	text := admin.NewToken()
	id := ""
	if team != nil {
		id = team.ID
	}
	name := strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(text[3:30])) + "x"
	if _, err := plane.Store.CreateToken(t.Context(), id, control.Token{Name: "t" + name, Role: role}, admin.HashToken(text), control.Event{Kind: "token.create", Actor: "system"}); err != nil {
		t.Fatal(err)
	}
	return text
}

// answered is what a Server that serves no address has answered.
type answered struct {
	status int
	header http.Header
	body   string
}

// serving asks s, past any network.
func serving(s *admin.Server) func(token, method, path, body string) answered {
	return func(token, method, path, body string) answered {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		s.ServeHTTP(w, r)
		return answered{w.Code, w.Header(), w.Body.String()}
	}
}

// problem checks that an answer is a problem and gives its detail.
func problem(t *testing.T, r controltest.Response, status int) string {
	t.Helper()
	var p struct {
		Type, Title, Detail, Code string
		Status                    int
	}
	if err := json.Unmarshal([]byte(r.Body), &p); err != nil || r.Status != status || p.Status != status || p.Code == "" || p.Detail == "" || p.Title == "" ||
		r.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("want a problem with status %d, got %d %s (%s)", status, r.Status, r.Body, r.Header.Get("Content-Type"))
	}
	return p.Detail
}
