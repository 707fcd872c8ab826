package admin_test

import (
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/control/admin"
	"sallyport/control/controltest/cutter"
	"sallyport/control/store"
)

// TestReadinessCostsTheDatabaseNothing: whoever asks without end whether it is ready,
// which takes no token, has the database asked once a second.
func TestReadinessCostsTheDatabaseNothing(t *testing.T) {
	c := cutter.New(t, plane.DatabaseURL)
	st, err := store.Open(t.Context(), c.URL, plane.Admin.Log)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	config := plane.Admin.Config
	config.Store = st
	s, err := admin.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() (int, string) {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		return w.Code, w.Body.String()
	}
	c.Arm(0, false)
	start := time.Now()
	var flood sync.WaitGroup
	for range 50 {
		flood.Go(func() {
			for range 20 {
				if status, body := ask(); status != 200 {
					t.Errorf("%d %s", status, body)
				}
			}
		})
	}
	flood.Wait()
	if asked, _ := c.Seen(); asked < 1 || asked > 2+int(time.Since(start)/time.Second) {
		t.Errorf("1,000 questions within %v had the database asked %d times", time.Since(start), asked)
	}

	eventually := func(want int, text string) {
		t.Helper()
		for range 100 {
			if status, body := ask(); status == want && strings.Contains(body, text) {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("it never says %d %s", want, text)
	}
	c.Arm(1, false)
	eventually(503, `"blockers":["database"]`)
	c.Arm(0, false)
	eventually(200, `"ready":true`)
}
