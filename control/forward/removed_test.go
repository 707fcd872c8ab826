package forward

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// TestRemovedIsCountedOnce: what retention removed before a receiver had it is counted once, however
// often the next event is tried.
func TestRemovedIsCountedOnce(t *testing.T) {
	t.Parallel()
	c := &collecting{got: map[string]string{}}
	c.answer = func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(503); return false }
	server := httptest.NewServer(c)
	defer server.Close()
	p := newPlane(t)
	p.record(t, 4, control.Event{Kind: "act", Actor: "token:x"})
	metric, stop := p.forward(t, p.Store, "otlp+"+server.URL+"?name=siem&team=billing")
	eventually(t, "it is known", func() bool { return metric("forward_errors_total") > 0 })
	stop()
	conn := must(pgx.Connect(t.Context(), p.url))(t)
	defer conn.Close(t.Context())
	for _, sql := range []string{ // as if a month had ended, and was dropped
		`alter table audit_events detach partition audit_events_first`,
		`create table audit_events_rest partition of audit_events default`,
		`alter table audit_events_rest add primary key (team_id, position)`,
	} {
		must(conn.Exec(t.Context(), sql))(t)
	}
	removed := p.count
	p.record(t, 2, control.Event{Kind: "act", Actor: "token:x"})
	metric, _ = p.forward(t, p.Store, "otlp+"+server.URL+"?name=siem&team=billing")
	eventually(t, "it is tried several times", func() bool { return metric("forward_errors_total") >= 3 })
	c.set(nil)
	eventually(t, "what is left arrives", func() bool { return c.has(p.count) })
	eventually(t, "the rest is counted", func() bool { return metric("forward_lost_total") > 0 })
	if n := metric("forward_lost_total"); n != float64(removed) {
		t.Errorf("of %d that were removed, %v are counted", removed, n)
	}
}
