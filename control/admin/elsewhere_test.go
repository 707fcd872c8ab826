package admin_test

import (
	"net/http/httptest"
	"testing"

	"sallyport/control"
	"sallyport/control/admin"
)

// TestPagesElsewhereHoldUpNobody: a page that has a browser ask without a token, which any page
// can, uses nothing up of what the address may try.
func TestPagesElsewhereHoldUpNobody(t *testing.T) {
	config := plane.Admin.Config
	config.Strangers = admin.Pace{Rate: 1e-9, Burst: 5}
	s, err := admin.New(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, site := range []string{"cross-site", "same-site"} {
		for _, path := range []string{"/v1/info", "/v1/login"} {
			for range 10 {
				w, r := httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)
				r.Header.Set("Sec-Fetch-Site", site)
				if s.ServeHTTP(w, r); w.Code != 403 {
					t.Fatalf("%s by a page of another origin: %d", path, w.Code)
				}
			}
		}
	}
	if r := serving(s)(token(t, plane.NewTeam(t), control.RoleViewer), "GET", "/v1/info", ""); r.status != 200 {
		t.Errorf("who sits there: %d %s", r.status, r.body)
	}
}
