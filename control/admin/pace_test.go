package admin_test

import (
	"fmt"
	"net/http/httptest"
	"strconv"
	"testing"

	"sallyport/control"
	"sallyport/control/admin"
)

// paced is a Server of its own, with small paces.
func paced(t *testing.T, calls, strangers admin.Pace) func(address, token string) *httptest.ResponseRecorder {
	t.Helper()
	config := plane.Admin.Config
	config.Calls, config.Strangers = calls, strangers
	s, err := admin.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return func(address, token string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/v1/info", nil)
		r.RemoteAddr = address
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		s.ServeHTTP(w, r)
		if w.Code == 429 {
			if after, err := strconv.Atoi(w.Header().Get("Retry-After")); err != nil || after < 1 || w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("429 with %v: %s", w.Header(), w.Body)
			}
		}
		return w
	}
}

func TestCallersArePaced(t *testing.T) {
	ask := paced(t, admin.Pace{Rate: 1e-9, Burst: 5}, admin.Pace{Rate: 1e-9, Burst: 5})
	team := plane.NewTeam(t)
	one, other := token(t, team, control.RoleViewer), token(t, team, control.RoleViewer)
	for i := range 8 {
		want := 200
		if i >= 5 {
			want = 429
		}
		if w := ask(fmt.Sprintf("192.0.2.%d:1", i), one); w.Code != want {
			t.Errorf("call %d: %d %s", i, w.Code, w.Body)
		}
	}
	if w := ask("192.0.2.1:1", other); w.Code != 200 {
		t.Errorf("another token: %d", w.Code)
	}
}

// TestGuessesArePaced: an address may try so many tokens; whoever has a good one goes on
// from there, another /64 too.
func TestGuessesArePaced(t *testing.T) {
	ask := paced(t, admin.Pace{Rate: 1, Burst: 100}, admin.Pace{Rate: 1e-9, Burst: 5})
	good := token(t, nil, control.RoleViewer)
	if w := ask("[2001:db8::1]:1", good); w.Code != 200 {
		t.Fatalf("%d", w.Code)
	}
	for i := range 10 {
		guess := []string{admin.NewToken(), "", "sp_short"}[i%3]
		want := 401
		if i >= 5 {
			want = 429
		}
		if w := ask(fmt.Sprintf("[2001:db8::%x]:1", i+1), guess); w.Code != want {
			t.Errorf("guess %d: %d", i, w.Code)
		}
	}
	if w := ask("[2001:db8::7]:1", good); w.Code != 200 {
		t.Errorf("a good token from there: %d", w.Code)
	}
	if w := ask("[2001:db8::7]:1", token(t, nil, control.RoleViewer)); w.Code != 429 {
		t.Errorf("one that was not seen before is looked for: %d", w.Code)
	}
	if w := ask("[2001:db8:0:1::1]:1", admin.NewToken()); w.Code != 401 {
		t.Errorf("from another network: %d", w.Code)
	}
}

// TestPacesAreBounded: more addresses than are told apart take no more memory, and share
// what is left.
func TestPacesAreBounded(t *testing.T) {
	most, last := admin.FillPaces(admin.Pace{Rate: 1e-9, Burst: 2}, 50_000)
	if most > 20_000 || last {
		t.Errorf("%d limiters; the last of them was let through: %v", most, last)
	}
}
