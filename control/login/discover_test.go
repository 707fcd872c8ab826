package login

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/control"
)

// TestSilentIssuerIsAskedByOne: whoever asks how to log in, which takes no token, has an
// issuer that does not answer asked once for all who wait, and waits no longer than they want.
func TestSilentIssuerIsAskedByOne(t *testing.T) {
	var asked atomic.Int32
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		<-end
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	issuer, err := New(Config{Issuer: server.URL, ClientID: "c", GroupsClaim: "groups", Mappings: []Mapping{{"g", control.Grant{Role: control.RoleViewer}}}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	impatient, cancel := context.WithCancel(t.Context())
	var all, left sync.WaitGroup
	for i := range 50 {
		group, ctx := &all, t.Context()
		if i%2 == 0 {
			group, ctx = &left, impatient
		}
		group.Go(func() {
			if _, err := issuer.Method(ctx); err == nil {
				t.Error("the issuer has answered")
			}
		})
	}
	for asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	left.Wait() // while the issuer is silent
	time.Sleep(100 * time.Millisecond)
	close(end)
	all.Wait()
	if n := asked.Load(); n > 5 {
		t.Errorf("50 who asked at once had the issuer asked %d times", n)
	}
}
